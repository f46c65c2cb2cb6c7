"""What a run prints at its end: its metrics, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from rich.console import Console
from rich.table import Table


def show_metrics(title: str, metrics: Mapping[str, object]) -> None:
    """Print the metrics that are numbers and, as COCO's -1 says, have something to measure."""
    table = Table("metric", title=title, title_justify="left")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        if isinstance(value, Real) and not float(value) < 0:
            table.add_row(name, f"{value:.3f}")
    if table.row_count:
        Console(soft_wrap=True, highlight=False).print(table)


def show_lines(lines: Mapping[str, object]) -> None:
    """Print lines of a name and what is there, such as a file."""
    for name, value in lines.items():
        print(f"{name:>10}  {value}")
