"""Draw what a model attends to over the images or clips that it predicts on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import ClipView, View
from attn_mm.layers.recording import Recorded, attending_layers
from attn_mm.maps.attention_sheet import attention_sheet, panel_rows
from attn_mm.maps.limits import Limits, Look
from attn_mm.maps.overlay import fit_to_image
from attn_mm.maps.panels import Panel, attention_of, frame_panels, panels
from attn_mm.maps.sheet import VECTOR, Sheet
from attn_mm.utils.files import write_atomically


class AttentionSheets:
    """Draws what a model attends to, one picture for a view.

    Args:
        model: in evaluation mode.
        run: runs the model once on its input, as a framework's ``plain_forward(model)`` does.
        keep_scale: let the first picture's colour scales hold for all, as a video needs.
        look: how the maps are coloured.
        suffix: suffix of the files of images' sheets, such as ``".svg"``; None: that of the image.

    Raises:
        UserError: no layer of the model attends.
    """

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[Tensor], object],
        keep_scale: bool = False,
        look: Look | None = None,
        suffix: str | None = None,
    ) -> None:
        if not attending_layers(model):
            raise UserError(
                f"--show-attention: {_name(model)} has no attention masks; use a config whose network has "
                "attention, such as configs/fcos_tdaf_r50.py"
            )
        self.model, self.run, self.keep_scale = model, run, keep_scale
        self.look, self.suffix = look or Look(), suffix
        self.limits: Limits | None = None
        self.figure: AttentionFigure | None = None

    def panels(self, view: View) -> list[Panel]:
        """What is attended to in a view, its maps without padding, on the pixels of the view's picture."""
        return fitted(panels(self._maps(view.inputs)), view.picture, view.valid)

    def __call__(self, view: View, name: str = "") -> Sheet:
        """The sheet of a view, which the figure, where there is one, knows by ``name``."""
        found = self.panels(view)
        if self.figure:
            self.figure.add(name, view.picture, found)
        return self._sheet(view.picture, found)

    def clip_panels(self, view: ClipView) -> Callable[[int], list[Panel]]:
        """A function from a frame's index in a clip to its panels, on the pixels of the view's pictures."""
        of_frame = frame_panels(self._maps(view.inputs), view.inputs, len(view.pictures))
        return lambda index: fitted(of_frame(index), view.pictures[index])

    def of_clip(self, view: ClipView) -> Callable[[int], Sheet]:
        """A function from a frame's index in a clip to its sheet."""
        of_frame = self.clip_panels(view)
        return lambda index: self._sheet(view.pictures[index], of_frame(index))

    def _maps(self, inputs: Tensor) -> list[Recorded]:
        maps = attention_of(self.model, self.run, inputs)
        if not maps:
            raise UserError(f"--show-attention: none of the attention layers of {_name(self.model)} runs")
        return maps

    def _sheet(self, picture: np.ndarray, found: list[Panel]) -> Sheet:
        limits = self.limits or self.look.limits(found)
        if self.keep_scale:
            self.limits = limits
        return attention_sheet(picture, found, limits, self.look.colours)


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write a sheet in the format that the path's suffix names: PDF, SVG or one of images.

    Raises:
        UserError: that fails.
    """
    if path.suffix.lower() in VECTOR:
        sheet.write(path)
    else:
        write_image(path, sheet.pixels())


def fitted(
    found: Sequence[Panel], picture: np.ndarray, valid: tuple[float, float] = (1.0, 1.0)
) -> list[Panel]:
    """Panels whose maps lie on the pixels of the picture; see :func:`attn_mm.maps.overlay.fit_to_image`."""
    return [
        replace(panel, values=fit_to_image(panel.values, picture.shape[:2], valid))
        if panel.kind.over == "positions"
        else panel
        for panel in found
    ]


def _name(model: nn.Module) -> str:
    return type(getattr(model, "backbone", model)).__name__


class AttentionFigure:
    """The panels of the first views in one picture, see :func:`attn_mm.maps.attention_sheet.panel_rows`.

    Args:
        path: of the picture; JSON with each panel's extremes and mean goes beside it.
        count: how many views, at most.
        look: how the maps are coloured.
    """

    def __init__(self, path: Path, count: int, look: Look) -> None:
        self.path, self.count, self.look = path, count, look
        self.rows: list[tuple[np.ndarray, list[Panel]]] = []
        self.names: list[str] = []

    def add(self, name: str, picture: np.ndarray, found: list[Panel]) -> None:
        """Take in a view, if there is room left."""
        if len(self.rows) < self.count:
            self.names.append(name)
            self.rows.append((picture, found))

    def write(self) -> None:
        """Write the picture and the JSON; UserError where that fails."""
        if not self.rows:
            return
        write_sheet(self.path, panel_rows(self.rows, self.look))
        record = [
            {"view": name, "masks": _described(found)} for name, (_, found) in zip(self.names, self.rows)
        ]
        write_atomically(self.path.with_suffix(".json"), json.dumps(record, indent=1) + "\n")


def _described(found: Sequence[Panel]) -> list[dict]:
    """The panels for JSON; those of layers without stages are numbered by kind, and have flow 0."""
    number: Counter[str] = Counter()
    described = []
    for panel in found:
        number[panel.kind.name] += 1
        place = {"stage": number[panel.kind.name], "flow": 0, **panel.place}
        described.append(
            {
                **place,
                "kind": panel.kind.name,
                "layer": panel.layer,
                "lowest": round(float(panel.values.min()), 5),
                "mean": round(float(panel.values.mean()), 5),
                "highest": round(float(panel.values.max()), 5),
            }
        )
    # Of a recursion, stage by stage.
    return sorted(described, key=lambda item: (item["kind"], item["stage"], item["flow"]))
