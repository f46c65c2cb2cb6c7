"""The parts of a data set: training, validation and test."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

SPLITS = ("train", "val", "test")
SHARE = 0.2
"""The share of a set that is held out for validation if the set has no such part."""

_WORDS = "(train|training|val|valid|validation|dev|test|testing)"
_WORD = re.compile(rf"(?<![a-z]){_WORDS}(?![a-z])")
_SHORT = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


def split_named(name: str) -> str | None:
    """The split that a name like ``instances_val2017`` says; None if it says none."""
    words = {_SHORT.get(word, word) for word in _WORD.findall(name.lower())}
    return words.pop() if len(words) == 1 else None


def split_called(name: str) -> str | None:
    """The split that is called ``name``, such as ``valid``; None if it is no split's name."""
    return split_named(name) if re.fullmatch(_WORDS, name.lower()) else None


def hold_out(items: Iterable[T], seed: int) -> tuple[list[T], list[T]]:
    """Divide items at random into those to train on and those to validate on.

    Args:
        items: at least two for both parts to have one; their order matters.
        seed: of the random choice.
    """
    shuffled: Sequence[T] = [*items]
    order = random.Random(seed).sample(range(len(shuffled)), len(shuffled))
    held = set(order[: max(1, round(SHARE * len(order)))] if len(order) > 1 else [])
    return (
        [item for place, item in enumerate(shuffled) if place not in held],
        [item for place, item in enumerate(shuffled) if place in held],
    )
