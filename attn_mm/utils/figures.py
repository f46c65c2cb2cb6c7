"""Figures by matplotlib, which is imported only when one is drawn.

matplotlib's own sizes of text, 10 to 12 points, are readable where a figure is shown in its own size: it is
no wider than :data:`MAX_WIDTH`, the width of a page of documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_mm.errors import readable
from attn_mm.utils.extras import require
from attn_mm.utils.files import writing

DPI = 100
# Inches.
MAX_WIDTH = 8.4
# Points of the smallest text.
SMALL = 9


def plot(columns: int = 1, width: float = 4.2, height: float = 3.2) -> tuple[Any, Any]:
    """Make a figure with a row of axes.

    Args:
        columns: number of axes.
        width, height: inches of each; a figure is at most :data:`MAX_WIDTH` wide.
    """
    figure, axes = panels(1, columns, width, height)
    return figure, axes[0]


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """Make a figure with rows of axes, an array ``(rows, columns)``; sizes are as in :func:`plot`."""
    size = min(MAX_WIDTH, width * columns), height * rows
    figure = require("matplotlib.figure").Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def grid(rows: int, columns: int, side: float) -> tuple[Any, Any]:
    """Make a figure of ``(rows, columns)`` axes without ticks, each about ``side`` inches wide and high."""
    figure = require("matplotlib.figure").Figure(figsize=(side * columns, (side + 0.25) * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    # Room for a line above each; matplotlib's own layouts take seconds for so many.
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.06, hspace=0.25)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        # Shows where a white image ends.
        axis.spines[:].set(color="0.8", linewidth=0.5)
    return figure, axes


def save(figure: Any, path: Path, vector: bool = True) -> None:
    """Write a figure as its path's suffix says and, for a plot, as SVG beside it.

    Raises:
        UserError: that fails.
    """
    for text in figure.findobj(require("matplotlib.text").Text):
        text.set_text(readable(text.get_text()))
    for target in dict.fromkeys([path, path.with_suffix(".svg")] if vector else [path]):
        about = {"Date": None} if target.suffix == ".svg" else None
        # A layout of matplotlib's own has its margins already; a grid's titles lie outside.
        tight = None if figure.get_layout_engine() else "tight"
        with writing(target):
            figure.savefig(target, dpi=DPI, bbox_inches=tight, metadata=about)
