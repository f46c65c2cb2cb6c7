"""Figures by matplotlib, which is imported only when one is drawn."""

from __future__ import annotations

from pathlib import Path

from attn_mm.errors import readable
from attn_mm.utils.extras import require
from attn_mm.utils.files import writing


def pyplot():
    """Import matplotlib's ``pyplot`` with a backend that opens no window."""
    require("matplotlib").use("Agg")
    return require("matplotlib.pyplot")


def grid(rows: int, columns: int, side: float):
    """Make a figure of ``(rows, columns)`` axes without ticks, each about ``side`` inches wide and high."""
    size = side * columns, (side + 0.2) * rows
    figure, axes = pyplot().subplots(rows, columns, squeeze=False, figsize=size)
    # Room for a line above each; matplotlib's own layouts take seconds for so many.
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.06, hspace=0.2)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        # Shows where a white image ends.
        axis.spines[:].set(color="0.8", linewidth=0.5)
    return figure, axes


def save(figure, *paths: Path) -> None:
    """Write a figure to one or more files, in the formats that their names end with, and close it."""
    for text in figure.findobj(require("matplotlib.text").Text):
        text.set_text(readable(text.get_text()))
    for path in paths:
        with writing(path):
            figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot().close(figure)
