"""What ``attn-mm new`` tells of a data set: what it has, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

_EXAMPLES = 3


class Report:
    """Lines for the screen.

    Attributes:
        found: what the data set has.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._faults: dict[tuple[str, str], list[str]] = {}
        self._remarks: list[str] = []

    def complain(self, what: str, places: Iterable[object], consequence: str) -> None:
        """Add places with the same fault, which are one line.

        Args:
            what: the fault, such as ``"images that can't be read"``.
            places: where it is; a few of them are named.
            consequence: what is done about it.
        """
        self._faults.setdefault((what, consequence), []).extend(map(str, places))

    def remark(self, line: str) -> None:
        """Add a line about a fault that has no place."""
        self._remarks.append(line)

    @property
    def wrong(self) -> list[str]:
        """What is wrong with the data set, and what is done about it."""
        lines = []
        for (what, consequence), places in self._faults.items():
            named = ", ".join(places[:_EXAMPLES]) + (", ..." if len(places) > _EXAMPLES else "")
            if places:
                lines.append(f"{what}: {len(places):,}, {consequence} ({named})")
        return lines + self._remarks


def sizes_in_words(sizes: Sequence[tuple[int, int]]) -> str:
    """The width and height of many images, such as ``640 x 480 pixels``."""
    if not sizes:
        return "no size"
    if len(set(sizes)) == 1:
        return "{} x {} pixels".format(*sizes[0])
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    return "{} x {} to {} x {} pixels".format(*by_area[0], *by_area[-1])


def counts_in_words(counts: Counter[str], most: int = 12) -> str:
    """The number of each class, the most frequent first, such as ``RBC 4,155, WBC 372``."""
    parts = [f"{name} {number:,}" for name, number in counts.most_common(most)]
    others = len(counts) - len(parts)
    return ", ".join(parts) + (f" and {others} more" if others > 0 else "")
