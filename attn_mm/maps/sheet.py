"""A sheet of pictures, text and colour scales at places in pixels, drawn by matplotlib.

The origin is the upper left corner. matplotlib is imported only when text is measured or a sheet is drawn.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from attn_mm.errors import readable
from attn_mm.maps.colours import colours
from attn_mm.utils.extras import require
from attn_mm.utils.files import writing

# Pixels of an inch: with a power of two, a size in inches has its whole pixels back.
_DPI = 64
_POINT = 72 / _DPI
# Of a letter and of a line, in pixels.
TEXT, HEAD, LINE = 19, 23, 25
INK, SOFT, BAR = "#282828", "#6a6a6a", "#1f77b4"
VECTOR = (".pdf", ".svg")
"""Formats that :meth:`Sheet.write` writes."""


# A line may break behind blanks, and within a layer's name behind its dots.
_BREAK = re.compile(r"(?<= )|(?<=\.)(?=[A-Za-z])")


@cache
def _renderer() -> Any:
    return require("matplotlib.backends.backend_agg").RendererAgg(1, 1, _DPI)


@cache
def _font(size: float, weight: str) -> Any:
    return require("matplotlib.font_manager").FontProperties(size=size * _POINT, weight=weight)


@cache
def text_width(text: str, size: float = TEXT, weight: str = "normal") -> float:
    """The width of a line of text in pixels."""
    with _quietly():
        return _renderer().get_text_width_height_descent(text, _font(size, weight), False)[0]


def wrapped(text: str, width: float, most: int | None = None, weight: str = "normal") -> list[str]:
    """Break a text into lines of at most ``width`` pixels.

    Args:
        text: the text.
        width: width of a line.
        most: maximum number of lines; the last one then ends with "…".
        weight: of the letters, ``"normal"`` or ``"bold"``.
    """
    lines = [""]
    for word in _BREAK.split(text):
        if lines[-1] and text_width((lines[-1] + word).rstrip(), weight=weight) > width:
            lines.append("")
        lines[-1] += word
    lines = [line.rstrip() for line in lines]
    if most and len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + "…"]
    return [_shortened(line, width, weight) for line in lines]


def _shortened(text: str, width: float, weight: str) -> str:
    """Leave out the middle of a line that is wider than ``width`` pixels."""
    kept = len(text)
    while kept > 2 and text_width(text, weight=weight) > width:
        kept -= 1
        text = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return text


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        # A name may have letters that the font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def zoomed(picture: np.ndarray, zoom: float) -> np.ndarray:
    """Resize a picture by a factor, to at least one pixel."""
    size = [max(1, round(zoom * side)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)


class Sheet:
    """A white sheet that grows to the right with its pictures, and to the bottom with all that is put on it.

    So the sheets of a video's frames have one size, whatever the numbers in their text.

    Args:
        width: pixels that it has at least.
    """

    def __init__(self, width: int) -> None:
        self.width, self.height = width, 0
        self._drawn: list[Callable[[Any], object]] = []

    def _add(self, right: float, bottom: float, draw: Callable[[Any], object]) -> None:
        self.width, self.height = max(self.width, round(right)), max(self.height, round(bottom))
        self._drawn.append(draw)

    def text(
        self, x: float, y: float, text: str, size: float = TEXT, weight: str = "normal", colour: str = INK
    ) -> None:
        """Write a line whose upper left corner is at ``(x, y)``."""
        text = readable(text)
        about = dict(fontproperties=_font(size, weight), color=colour, va="baseline", parse_math=False)
        self._add(0, y + LINE, lambda axes: axes.text(x, y + size, text, **about))

    def lines(self, x: float, y: float, lines: Sequence[str], **about: Any) -> float:
        """Write lines below each other; return where the next one would begin."""
        for line in lines:
            self.text(x, y, line, **about)
            y += LINE
        return y

    def picture(self, x: int, y: int, picture: np.ndarray) -> None:
        """Put a picture, uint8 BGR, pixel by pixel."""
        height, width = picture.shape[:2]
        extent = (x, x + width, y + height, y)
        rgb = picture[..., ::-1]
        self._add(x + width, y + height, lambda axes: axes.imshow(rgb, extent=extent, interpolation="none"))

    def bars(self, x: float, y: float, width: float, height: float, counts: Sequence[int]) -> None:
        """Draw a histogram on a line."""
        edges = np.linspace(x, x + width, len(counts) + 1)
        # None is counted where all values lie outside the bounds that a layer claims.
        tops = y + height * (1 - np.array(counts) / max(1, *counts))
        # One outline for all bars, with a gap between them: an artist a bar takes ten times as long.
        across = np.repeat(edges, 4)[2:-2].reshape(-1, 4) - np.array((0, 0, 1, 1))
        up = np.stack([np.full_like(tops, y + height), tops, tops, np.full_like(tops, y + height)], 1)

        def draw(axes: Any) -> None:
            axes.fill(across.ravel(), up.ravel(), color=BAR, linewidth=0)
            axes.plot((x, x + width), (y + height,) * 2, color=INK, linewidth=0.8)

        self._add(x + width, y + height, draw)

    def scale(self, x: int, y: int, width: int, ends: Sequence[str], colour_scale: str | None) -> None:
        """Draw a colour scale with the values at its ends and its middle below; None: the values alone."""
        if colour_scale:
            strip = colours(np.linspace(0, 1, width)[None].repeat(10, axis=0), colour_scale)
            self.picture(x, y, strip)
            y += 12
        self.text(x, y, ends[0])
        if len(ends) > 2:
            self.text(x + (width - text_width(ends[1])) / 2, y, ends[1])
        self.text(x + width - text_width(ends[-1]), y, ends[-1])

    def _figure(self, border: int = 8) -> Any:
        # Even numbers, which videos need.
        width, height = (side + side % 2 + 2 * border for side in (self.width, self.height))
        figure = require("matplotlib.figure").Figure((width / _DPI, height / _DPI), dpi=_DPI)
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        for draw in self._drawn:
            draw(axes)
        axes.set(xlim=(-border, width - border), ylim=(height - border, -border), aspect="auto")
        axes.set_axis_off()
        return figure

    def pixels(self) -> np.ndarray:
        """The sheet as a picture, (H, W, 3) uint8 BGR."""
        figure = self._figure()
        canvas = require("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
        with _quietly():
            canvas.draw()
        return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)

    def write(self, path: Path) -> None:
        """Write the sheet as PDF or SVG, by the path's suffix; UserError if that fails."""
        about = {"CreationDate": None} if path.suffix.lower() == ".pdf" else {"Date": None}
        with writing(path), _quietly():
            self._figure().savefig(path, metadata=about)
