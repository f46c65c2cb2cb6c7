"""Choose a few items out of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], number: int | None) -> list[Item]:
    """Choose ``number`` evenly spaced items; all of them if there are fewer or ``number`` is None."""
    number = len(items) if number is None else min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]
