"""Draw all attention of a network in one sheet: maps over the image, and distributions of other values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.colours import COLOURS
from attn_mm.maps.limits import Limits, Look, hardly_varies
from attn_mm.maps.overlay import overlay
from attn_mm.maps.panels import Panel, rank
from attn_mm.maps.sheet import HEAD, LINE, SOFT, Sheet, wrapped, zoomed
from attn_mm.maps.values import BINS, histogram, summarise

_T = TypeVar("_T")

# Pixels: the longer side of a picture on a sheet, a column's width in a figure, the height of a histogram.
SIDE, ROW_WIDTH, CHART_HEIGHT = 240, 188, 100
COLUMNS = 4
GAP = 16
# Of a colour scale with its values.
_SCALE_HEIGHT = 12 + LINE


def is_mask(panel: Panel) -> bool:
    """Whether the panel is a mask of a stage and flow: these have flows as rows and stages as columns."""
    return panel.kind.over == "positions" and set(panel.place) == {"stage", "flow"}


@dataclass(frozen=True)
class _Cell:
    """A panel as it is drawn: its names above, its scale, where it needs one, and its figures below."""

    panel: Panel
    names: list[str]
    limits: tuple[float, float]
    has_scale: bool


def attention_sheet(
    picture: np.ndarray,
    panels: Sequence[Panel],
    limits: Limits | None = None,
    scale: str = COLOURS[0],
) -> Sheet:
    """Draw all panels of one picture.

    The picture is at the left. Each kind of attention has a section that explains its values. A section whose
    maps share one colour scale shows it once, otherwise each map has its own below it. A panel shows its
    layer and place, the mean and spread of its values and their extremes, and says if they hardly vary.

    Args:
        picture: (H, W, 3) uint8 BGR.
        panels: the panels; values over positions are (h, w) over the whole picture.
        limits: the ends of the colour scales; None: see :func:`attn_mm.maps.limits.shared_limits`.
        scale: name of the colour scale.

    Raises:
        ValueError: there is no panel.
    """
    if not panels:
        raise ValueError("attention_sheet needs at least one panel")
    limits = Look().limits(panels) if limits is None else limits
    small = zoomed(picture, SIDE / max(picture.shape[:2]))
    sheet = Sheet(SIDE + COLUMNS * (GAP + SIDE))
    sheet.text(0, 0, "image", weight="bold")
    sheet.picture(0, LINE + 4, small)
    left, y = SIDE + GAP, 0.0
    for group in _grouped(sorted(panels, key=rank), lambda panel: (panel.kind, is_mask(panel))):
        y = _section(sheet, left, y, small, group, limits, scale) + GAP
    return sheet


def _section(
    sheet: Sheet, x: int, y: float, small: np.ndarray, group: Sequence[Panel], limits: Limits, scale: str
) -> float:
    """Draw the panels of one kind below its explanation; return where the next section begins."""
    kind = group[0].kind
    width = COLUMNS * (SIDE + GAP) - GAP
    sheet.text(x, y, kind.name, HEAD, "bold")
    y = sheet.lines(x, y + HEAD + 8, wrapped(kind.meaning, width))
    y = sheet.lines(x, y, wrapped(kind.paper, width), colour=SOFT)
    if kind.over != "positions":
        y = sheet.lines(x, y, [f"The bars count the {kind.over} by their values."], colour=SOFT)
    ends = {limits[panel.key] for panel in group} if kind.over == "positions" else set()
    shared = len(ends) == 1
    if shared:
        sheet.scale(x, round(y + 8), 2 * SIDE + GAP, _numbers(kind, *ends.pop()), scale)
        y += 8 + _SCALE_HEIGHT
    with_layer = len({panel.layer for panel in group}) > 1 or not group[0].place
    cells = [
        _Cell(panel, _names(panel, SIDE, with_layer), _ends(panel, limits), not shared) for panel in group
    ]
    for row in _rows(cells):
        y = _draw_row(sheet, x, y + GAP / 2, small, row, SIDE, scale)
    return y


def _rows(cells: Sequence[_Cell]) -> list[list[_Cell | None]]:
    if not is_mask(cells[0].panel):
        return [list(cells[start : start + COLUMNS]) for start in range(0, len(cells), COLUMNS)]
    rows = []
    for own in _grouped(cells, lambda cell: cell.panel.layer):
        at = {(cell.panel.place["flow"], cell.panel.place["stage"]): cell for cell in own}
        flows, stages = (sorted(set(numbers)) for numbers in zip(*at, strict=True))
        rows += [[at.get((flow, stage)) for stage in stages] for flow in flows]
    return rows


def _draw_row(
    sheet: Sheet,
    x: int,
    y: float,
    small: np.ndarray,
    row: Sequence[_Cell | None],
    width: int,
    scale: str,
) -> float:
    """Draw cells side by side; return where the row below them begins."""
    top = round(y + LINE * max(len(cell.names) for cell in row if cell) + 4)
    bottoms = []
    for column, cell in enumerate(row):
        if cell:
            left = x + column * (width + GAP)
            sheet.lines(left, top - 4 - LINE * len(cell.names), cell.names)
            bottoms.append(_draw_cell(sheet, left, top, small, cell, width, scale))
    return max(bottoms)


def _draw_cell(
    sheet: Sheet, x: int, top: int, small: np.ndarray, cell: _Cell, width: int, scale: str
) -> float:
    """Draw a map or a histogram, its scale and its figures; return where what is below them begins."""
    panel, kind = cell.panel, cell.panel.kind
    is_map = kind.over == "positions"
    y: float
    if is_map:
        sheet.picture(x, top, overlay(small, panel.values, cell.limits, scale))
        y = top + small.shape[0] + 4
    else:
        sheet.bars(x, top, width, CHART_HEIGHT, histogram(panel.values, cell.limits, BINS))
        y = top + CHART_HEIGHT + 4
    if cell.has_scale:
        ends = _numbers(kind, *cell.limits)
        sheet.scale(x, round(y), width, [ends[0], ends[-1]], scale if is_map else None)
        y += _SCALE_HEIGHT if is_map else LINE
    figures = summarise(panel.values)
    mean, spread, low, high = (_number(kind, figures[name]) for name in ("mean", "spread", "min", "max"))
    y = sheet.lines(x, y, [f"mean {mean} ± {spread}", f"from {low} to {high}"], colour=SOFT)
    sheet.lines(
        x,
        y,
        wrapped(hardly_varies(kind, figures["min"], figures["max"]), width, weight="bold"),
        weight="bold",
    )
    # Reserved even if nothing is written: all frames of a video need sheets of one size.
    return y + LINE * (1 if width >= SIDE else 2)


def panel_rows(rows: Sequence[tuple[np.ndarray, Sequence[Panel]]], look: Look | None = None) -> Sheet:
    """Draw the panels of several pictures, one row per picture, one column per panel.

    The masks of a recursion have one column per stage and flow: the columns of one stage form figure 3b of
    TDAF, the columns of one flow form figure 3c (https://arxiv.org/abs/2012.07248).

    Args:
        rows: each picture, (H, W, 3) uint8 BGR, and its panels, see :func:`attention_sheet`. The panels of
            all pictures must have the same layers and places.
        look: how the maps are coloured; a shared scale holds for all pictures.

    Raises:
        ValueError: there is no picture or no panel, or the pictures' panels have different places.
    """
    look = look or Look()
    first = list(rows[0][1]) if rows else []
    if not first or any([p.key for p in panels] != [p.key for p in first] for _, panels in rows):
        raise ValueError("panel_rows needs pictures with panels of the same layers and places")
    shared = look.scale == "shared"
    everything = look.limits([panel for _, panels in rows for panel in panels])
    with_layer = any(panel.layer != first[0].layer for panel in first) or not first[0].place
    heads = [
        [*wrapped(panel.kind.name, ROW_WIDTH, 2), *_names(panel, ROW_WIDTH, with_layer)] for panel in first
    ]
    tallest = max(map(len, heads))
    left = ROW_WIDTH + GAP
    sheet = Sheet(left + len(first) * left - GAP)
    sheet.text(0, LINE * (tallest - 1), "image")
    for column, (head, panel) in enumerate(zip(heads, first)):
        x = left + column * (ROW_WIDTH + GAP)
        sheet.lines(
            x, LINE * (tallest - len(head)), [line for name in head for line in wrapped(name, ROW_WIDTH, 1)]
        )
        if shared and panel.kind.over == "positions":
            ends = _numbers(panel.kind, *_ends(panel, everything))
            sheet.scale(x, LINE * tallest + 6, ROW_WIDTH, [ends[0], ends[-1]], look.colours)
    y = float(LINE * tallest + (6 + _SCALE_HEIGHT if shared else 0))
    for picture, panels in rows:
        small = zoomed(picture, ROW_WIDTH / picture.shape[1])
        limits = everything if shared else look.limits(panels)
        cells = [
            _Cell(panel, [], _ends(panel, limits), not shared or panel.kind.over != "positions")
            for panel in panels
        ]
        sheet.picture(0, round(y + 4), small)
        y = (
            max(_draw_row(sheet, left, y, small, cells, ROW_WIDTH, look.colours), y + 4 + small.shape[0])
            + GAP
        )
    return sheet


def _ends(panel: Panel, limits: Limits) -> tuple[float, float]:
    if panel.kind.over == "positions":
        return limits[panel.key]
    assert panel.kind.bounds is not None, "values over channels or weights have bounds"
    return panel.kind.bounds


def _names(panel: Panel, width: int, with_layer: bool) -> list[str]:
    """The lines above a panel: its layer, in at most two, and its place."""
    layer = wrapped(panel.layer.removeprefix("backbone."), width, 2) if with_layer else []
    return [*layer, *(wrapped(panel.title, width) if panel.title else [])]


def _grouped(items: Sequence[_T], by: Callable[[_T], object]) -> list[list[_T]]:
    groups: dict[object, list[_T]] = {}
    for item in items:
        groups.setdefault(by(item), []).append(item)
    return list(groups.values())


def _numbers(kind: AttentionKind, low: float, high: float) -> list[str]:
    return [_number(kind, value) for value in (low, (low + high) / 2, high)]


def _number(kind: AttentionKind, value: float) -> str:
    return f"{value:.2g}" if kind.bounds is None else f"{value:.2f}"
