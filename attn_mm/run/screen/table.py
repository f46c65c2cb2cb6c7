"""The table of a training's evaluations, a row at a time."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from numbers import Real

from rich.console import Console

MOST_METRICS = 6


class EvaluationTable:
    """Prints a row for each evaluation, below a head that comes once.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._head: list[str] = []

    def add(self, place: Mapping[str, float], metrics: Mapping[str, object]) -> None:
        """Print an evaluation.

        Args:
            place: its first columns, such as the epoch.
            metrics: by name. The table has the first six that are numbers and, as COCO's -1 says, have
                something to measure.
        """
        shown = [*place.items(), *_first(metrics).items()]
        head = [name for name, _ in shown]
        if head != self._head:
            self._head = head
            self._console.out("  ".join(f"{name:>{_width(name)}}" for name in head))
        self._console.out("  ".join(f"{_text(value):>{_width(name)}}" for name, value in shown))


def _first(metrics: Mapping[str, object]) -> dict[str, float]:
    """The first metrics that are numbers, without what all their names begin with."""
    found = {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}
    shown = [(name, value) for name, value in found.items() if value != -1][:MOST_METRICS]
    common = os.path.commonprefix([name for name, _ in shown])
    # A single metric keeps its last part.
    begins = max(common.rfind(mark) for mark in "/_") + 1 if len(shown) > 1 else common.rfind("/") + 1
    return {name[begins:]: value for name, value in shown}


def _width(name: str) -> int:
    return max(len(name), 7)


def _text(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"
