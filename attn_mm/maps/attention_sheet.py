"""Draw all attention of a network in one picture: maps over the image, and distributions of other values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.overlay import (
    GAP,
    INK,
    PAPER,
    ROW_WIDTH,
    colours,
    contact_sheet,
    mask_rows,
    overlay,
    row_image,
    row_picture,
    value_range,
    write_text,
)
from attn_mm.maps.panels import Panel, rank
from attn_mm.maps.values import BINS, histogram, summarise

Limits = Mapping[str, tuple[float, float]]
"""The values at the ends of the colour scales, by panel key."""

SIDE, COLUMNS = 240, 5
# Of a panel without a map, and of a line of text.
CHART_HEIGHT, LINE = 100, 20
# Pixels that a letter takes: of text in a panel, and of a section's name.
LETTER, HEAD_SIZE = 8.4, 0.6
# Of a line of a column's head.
HEAD_LETTERS = 16
BAR = (180, 119, 31)


def is_mask(panel: Panel) -> bool:
    """Whether the panel is a mask of a stage and flow, which :func:`contact_sheet` can place."""
    return panel.kind.over == "positions" and set(panel.place) == {"stage", "flow"}


def masks_of(panels: Sequence[Panel]) -> dict[tuple[int, int], np.ndarray]:
    """Index the values of masks as ``{(stage from 0, flow from 1): values}``."""
    return {(panel.place["stage"] - 1, panel.place["flow"]): panel.values for panel in panels}


def panel_range(panel: Panel) -> tuple[float, float]:
    """The values at the ends of the panel's colour scale.

    A map without bounds ranges from 0, or its minimum if that is negative, to its maximum. Other maps range
    between their extremes, at least ``MIN_SPAN`` apart, so that constant maps look constant.
    """
    if panel.kind.bounds is None:
        low, high = min(0.0, float(panel.values.min())), float(panel.values.max())
        return low, high if high > low else low + 1
    low, high = value_range(panel.values)
    if is_mask(panel):
        return low, high
    return max(panel.kind.bounds[0], low), min(panel.kind.bounds[1], high)


def attention_sheet(picture: np.ndarray, panels: Sequence[Panel], limits: Limits | None = None) -> np.ndarray:
    """Draw all panels of one picture.

    The masks of a recursion form a :func:`contact_sheet`. Below it, each kind of attention has a section that
    explains its values. A panel shows its layer, its scale, and the mean and spread of its values.

    Args:
        picture: (H, W, 3) uint8 BGR.
        panels: the panels; values over positions are (h, w) over the whole picture.
        limits: the ends of the colour scales; None uses each panel's own :func:`panel_range`.

    Returns:
        The drawn picture, uint8 BGR.

    Raises:
        ValueError: there is no panel.
    """
    if not panels:
        raise ValueError("attention_sheet needs at least one panel")
    limits = {panel.key: panel_range(panel) for panel in panels} if limits is None else limits
    parts = []
    for masks in _grouped([panel for panel in panels if is_mask(panel)], lambda p: (p.kind, p.layer)):
        ends = {(p.place["stage"] - 1, p.place["flow"]): limits[p.key] for p in masks}
        parts.append(contact_sheet(picture, masks_of(masks), ends))
    others = _grouped(sorted((p for p in panels if not is_mask(p)), key=rank), lambda p: p.kind)
    if others:
        small = _at_side(picture)
        sections = _stacked([_section(small, group, limits) for group in others])
        image = _cell(small, ["image"], small.shape[1])
        parts.append(sections if parts else _side_by_side([image, sections]))
    return parts[0] if len(parts) == 1 else _stacked(parts)


def panel_rows(rows: Sequence[tuple[np.ndarray, Sequence[Panel]]]) -> np.ndarray:
    """Draw the panels of several pictures, one row per picture, one column per panel, as :func:`mask_rows`.

    Args:
        rows: each picture, (H, W, 3) uint8 BGR, and its panels, see :func:`attention_sheet`. The panels of
            all pictures must have the same layers and places.

    Raises:
        ValueError: there is no picture or no panel, or the pictures' panels have different places.
    """
    first = list(rows[0][1]) if rows else []
    if not first or any([p.key for p in panels] != [p.key for p in first] for _, panels in rows):
        raise ValueError("panel_rows needs pictures with panels of the same layers and places")
    if all(map(is_mask, first)) and len({panel.layer for panel in first}) == 1:
        return mask_rows([(picture, masks_of(panels)) for picture, panels in rows])
    heads = [["image"], *(_head(panel) for panel in first)]
    tallest = max(map(len, heads))
    lines = []
    for picture, panels in rows:
        small = row_image(picture)
        cells: list[tuple[np.ndarray, Sequence[str]]] = [(small, ())]
        for panel in panels:
            ends = panel_range(panel)
            drawn = _drawn(small, panel, ends, ROW_WIDTH)
            cells.append((drawn, [" to ".join(_numbers(panel, ends))]))
        lines.append(cells)
    return row_picture([head + [""] * (tallest - len(head)) for head in heads], lines)


def _head(panel: Panel) -> list[str]:
    layer, place = _names(panel)
    # A layer's name has no blanks to break it at.
    lines = textwrap.wrap(layer.replace(".", ". "), HEAD_LETTERS)
    return [panel.kind.name, *(line.replace(". ", ".") for line in lines), place]


def _names(panel: Panel) -> list[str]:
    # The font knows no arrows.
    return [panel.layer.removeprefix("backbone."), panel.title.replace("→", "->")]


def shortened(text: str, letters: int) -> str:
    """Shorten ``text`` in the middle if it is longer than ``letters`` characters."""
    if len(text) <= letters:
        return text
    kept = letters - 2
    return f"{text[: kept - kept // 2]}..{text[len(text) - kept // 2 :]}"


def _grouped(panels: Sequence[Panel], by) -> list[list[Panel]]:
    groups: dict[object, list[Panel]] = {}
    for panel in panels:
        groups.setdefault(by(panel), []).append(panel)
    return list(groups.values())


def _at_side(picture: np.ndarray) -> np.ndarray:
    zoom = SIDE / max(picture.shape[:2])
    size = [max(1, round(zoom * side)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)


def _section(small: np.ndarray, panels: Sequence[Panel], limits: Limits) -> np.ndarray:
    """Draw the panels of one kind in rows below the kind's explanation."""
    kind = panels[0].kind
    with_place = any(panel.title for panel in panels)
    cells = []
    for panel in panels:
        ends = limits[panel.key] if kind.over == "positions" else _bounds(kind)
        names = _names(panel)[: 1 + with_place]
        figures = summarise(panel.values)
        about = f"mean {_number(kind, figures['mean'])}, spread {_number(kind, figures['spread'])}"
        cells.append(_cell(_drawn(small, panel, ends, SIDE), names, SIDE, _scale(panel, ends), about))
    rows = [_side_by_side(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    grid = _stacked(rows)
    return _stacked([_heading(kind, max(grid.shape[1], 2 * SIDE)), grid])


def _heading(kind: AttentionKind, width: int) -> np.ndarray:
    about = [kind.meaning, kind.paper]
    if kind.over != "positions":
        about.append(f"The bars count the {kind.over} by their values.")
    lines = [line for text in about for line in textwrap.wrap(text, int((width - 2 * GAP) / LETTER))]
    head = np.full((LINE * (len(lines) + 1) + 2 * GAP, width, 3), 255, np.uint8)
    write_text(head, kind.name, (GAP, GAP + LINE - 4), HEAD_SIZE)
    for number, line in enumerate(lines, start=2):
        write_text(head, line, (GAP, GAP + LINE * number - 4))
    return head


def _drawn(small: np.ndarray, panel: Panel, ends: tuple[float, float], width: int) -> np.ndarray:
    """Draw a map over the picture, or a histogram of values without positions."""
    if panel.kind.over == "positions":
        return overlay(small, panel.values, ends)
    counts = np.array(histogram(panel.values, _bounds(panel.kind), BINS), np.float64)
    chart = np.full((CHART_HEIGHT, width, 3), 255, np.uint8)
    edges = np.linspace(0, width, BINS + 1).round().astype(int)
    for left, right, part in zip(edges, edges[1:], counts / counts.max()):
        height = round(part * (CHART_HEIGHT - 4))
        chart[CHART_HEIGHT - height :, left + 1 : right] = BAR
    chart[-1] = INK
    return chart


def _scale(panel: Panel, ends: tuple[float, float]) -> np.ndarray:
    """Explain the colours, or the axis of a histogram."""
    strip = np.full((LINE, SIDE, 3), 255, np.uint8)
    low, high = _numbers(panel, ends)
    right = SIDE - 2 - _width(high)
    write_text(strip, low, (2, LINE - 5))
    write_text(strip, high, (right, LINE - 5))
    if panel.kind.over == "positions":
        left = _width(low) + 8
        strip[5:15, left : right - 6] = colours(np.linspace(0, 1, right - 6 - left)[None].repeat(10, axis=0))
    return strip


def _width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0]


def _numbers(panel: Panel, ends: tuple[float, float]) -> tuple[str, str]:
    if panel.kind.over != "positions":
        ends = _bounds(panel.kind)
    return _number(panel.kind, ends[0]), _number(panel.kind, ends[1])


def _bounds(kind: AttentionKind) -> tuple[float, float]:
    assert kind.bounds is not None, "values over channels or weights have bounds"
    return kind.bounds


def _number(kind: AttentionKind, value: float) -> str:
    return f"{value:.2g}" if kind.bounds is None else f"{value:.2f}"


def _cell(
    drawn: np.ndarray, names: Sequence[str], width: int, scale: np.ndarray | None = None, about: str = ""
) -> np.ndarray:
    """Draw a picture with its names above, and its scale and statistics below."""
    letters = int(width / LETTER)
    head = np.full((LINE * len(names) + 2, width, 3), 255, np.uint8)
    for number, name in enumerate(names, start=1):
        write_text(head, shortened(name, letters), (2, LINE * number - 5))
    parts = [head, drawn]
    if scale is not None:
        foot = np.full((LINE, width, 3), 255, np.uint8)
        write_text(foot, about, (2, LINE - 5))
        parts += [scale, foot]
    return cv2.copyMakeBorder(_stacked(parts), GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=PAPER)


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    width = max(part.shape[1] for part in parts)
    return np.vstack([_padded(part, part.shape[0], width) for part in parts])


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    height = max(part.shape[0] for part in parts)
    return np.hstack([_padded(part, height, part.shape[1]) for part in parts])


def _padded(part: np.ndarray, height: int, width: int) -> np.ndarray:
    more = height - part.shape[0], width - part.shape[1]
    return cv2.copyMakeBorder(part, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT, value=PAPER)
