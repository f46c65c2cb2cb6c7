"""A few of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], number: int | None) -> list[Item]:
    """``number`` of the items, evenly spread; all where there are fewer, or for None."""
    number = len(items) if number is None else min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]
