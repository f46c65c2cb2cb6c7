"""Grad-CAM panels: each layer's map for a prediction, by flow, and its change from step to step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from mmengine.model import BaseModel

from attn_mm.frameworks.prediction import ClipView, Target
from attn_mm.graft.early_stop import feedback_steps, stopped_after
from attn_mm.graft.grafted import find_flows
from attn_mm.layers.recording import AttentionKind
from attn_mm.maps.cam_layers import default_layers
from attn_mm.maps.grad_cam import class_activation_maps
from attn_mm.maps.panels import Panel
from attn_mm.maps.values import at_frame

_SELVARAJU = "Selvaraju et al., Grad-CAM, ICCV 2017, eqs. 1-2"
GRAD_CAM = AttentionKind(
    "Grad-CAM",
    _SELVARAJU,
    "How much the layer's output at this position speaks for the score, in the score's units; 0 "
    "where it doesn't.",
    bounds=None,
)
BY_STEP = AttentionKind(
    "Grad-CAM by step",
    f"Jaiswal et al., TDAM, ECCV 2022, figure 6; {_SELVARAJU}",
    "The same where the last blocks stop after that step: where the network looks on the way to its answer.",
    bounds=None,
)
SHIFT = AttentionKind(
    "Attention shift",
    BY_STEP.paper,
    "What Grad-CAM by step gains (red) and loses (blue) from a step to the next, each step's maximum being "
    "taken for 1.",
    bounds=None,
    leads_to="step",
)

Pick = Callable[[np.ndarray], np.ndarray]
"""Selects the map of one picture, (h, w), from the maps of a batch."""


class Cams:
    """Makes the Grad-CAM panels of a model.

    Args:
        model: the model.

    Raises:
        UserError: the model's backbone has no convolution.
    """

    def __init__(self, model: BaseModel) -> None:
        self._model = model
        # The outputs of a step's norm, which default_layers() names as well, are no step's last word.
        self._layers = {name: layer for name, layer in default_layers(model).items() if " step " not in name}
        self._steps = feedback_steps(model)
        flows = find_flows(getattr(model, "backbone", model))
        self._flows = None if flows is None else flows.number

    def of_view(self, name: str, target: Target, answer: Callable[[], str]) -> list[Panel]:
        """Make the panels of an image, or of a crop of it.

        Args:
            name: name of the score that the panels explain.
            target: computes that score.
            answer: runs the network and returns its prediction in a few words, the note of a step's panel.
        """
        found, steps = self._maps(target), self._by_step(target)
        panels = self._panels(name, found, steps, lambda maps: maps[0])
        for panel in panels:
            if panel.kind is BY_STEP:
                with stopped_after(self._model, panel.place["step"]):
                    panel.note = answer()
        return panels

    def of_clip(self, view: ClipView, name: str, target: Target) -> Callable[[int], list[Panel]]:
        """A function from a frame's index to its panels; ``name`` and ``target`` as in :meth:`of_view`."""
        found, steps = self._maps(target), self._by_step(target)
        length = len(view.pictures) // len(view.inputs)
        over_time = view.inputs.dim() == 5

        def of_frame(index: int) -> list[Panel]:
            sample, place = divmod(index, length)

            def pick(maps: np.ndarray) -> np.ndarray:
                return at_frame(maps[sample], place, length) if over_time else maps[sample]

            return self._panels(name, found, steps, pick)

        return of_frame

    def _maps(self, target: Target) -> dict[str, list[np.ndarray]]:
        return class_activation_maps(target, self._layers)

    def _by_step(self, target: Target) -> list[np.ndarray]:
        """The last layer's maps of a network with feedback, stopped after step 1, 2 and so on."""
        if self._steps == 1:
            return []
        name, layer = list(self._layers.items())[-1]
        maps = []
        for step in range(1, self._steps + 1):
            with stopped_after(self._model, step):
                maps.append(class_activation_maps(target, {name: layer})[name][-1])
        return maps

    def _panels(
        self, score: str, found: dict[str, list[np.ndarray]], steps: list[np.ndarray], pick: Pick
    ) -> list[Panel]:
        panels = []
        for name, calls in found.items():
            for call, maps in enumerate(calls, start=1):
                place = self._place(call, len(calls))
                panels.append(Panel(GRAD_CAM, np.asarray(pick(maps), np.float64), f"backbone.{name}", place))
        last = f"backbone.{list(found)[-1]}"
        picked = [np.asarray(pick(maps), np.float64) for maps in steps]
        panels += [Panel(BY_STEP, values, last, {"step": t}) for t, values in enumerate(picked, 1)]
        scaled = [values / (values.max() or 1.0) for values in picked]
        for step, (before, after) in enumerate(pairwise(scaled), start=2):
            panels.append(Panel(SHIFT, after - before, last, {"step": step}, signed=True))
        for panel in panels:
            panel.score = score
        return panels

    def _place(self, call: int, calls: int) -> dict[str, int]:
        if self._flows:
            # The last flow runs every stage, the ones before it leave out the last ones.
            return {"flow": self._flows - calls + call}
        return {"call": call} if calls > 1 else {}
