"""A model's attention masks, drawn over what it was shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import ClipView, View
from attn_mm.maps.overlay import contact_sheet, fit_to_image, mask_rows, value_range
from attn_mm.utils.files import write_atomically


def find_attention(model: Any) -> Callable[[Tensor], dict[tuple[int, int], Tensor]] | None:
    """A function from a model's input to the masks of its backbone or head; None where neither has any.

    The masks are ``{(stage from 0, flow from 1): (N, 1, h, w)}``, or ``(N, 1, t, h, w)`` of a 3D network.
    A backbone makes them of the input, a head of the features that the backbone gives.
    """
    backbone: Any = getattr(model, "backbone", model)
    head: Any = getattr(model, "head", None)
    if hasattr(backbone, "attention_masks"):
        return backbone.attention_masks
    if hasattr(head, "attention_masks"):
        return lambda inputs: head.attention_masks(model.extract_feat(inputs))
    return None


class AttentionSheets:
    """Draws what a model attends, one picture for a view.

    Args:
        model: the model, or its backbone, see :func:`find_attention`.
        keep_scale: let the first picture's colour scales hold for all, as a video needs.

    Raises:
        UserError: the model has no attention masks.
    """

    def __init__(self, model: nn.Module, keep_scale: bool = False) -> None:
        attention = find_attention(model)
        if attention is None:
            name = type(getattr(model, "backbone", model)).__name__
            raise UserError(
                f"--show-attention: {name} has no attention masks; use a config whose backbone or head "
                "makes some, such as configs/fcos_tdaf_r50.py"
            )
        self.attention, self.keep_scale = attention, keep_scale
        self.limits: dict[tuple[int, int], tuple[float, float]] | None = None
        self.figure: AttentionFigure | None = None

    def masks(self, view: View) -> dict[tuple[int, int], np.ndarray]:
        """The masks of a view's input, without padding, each on the pixels of the view's picture."""
        with torch.no_grad():
            found = self.attention(view.inputs)
        size = view.picture.shape[:2]
        return {
            key: fit_to_image(mask[0, 0].float().cpu().numpy(), size, view.valid)
            for key, mask in found.items()
        }

    def __call__(self, view: View, name: str = "") -> np.ndarray:
        """The contact sheet of a view, which the figure, where there is one, knows by ``name``."""
        masks = self.masks(view)
        if self.figure:
            self.figure.add(name, view.picture, masks)
        return self._sheet(view.picture, masks)

    def clip_masks(self, view: ClipView) -> dict[tuple[int, int], np.ndarray]:
        """The masks of a clip's input, each (frames, H, W), on the pixels of the view's pictures."""
        with torch.no_grad():
            found = self.attention(view.inputs)
        return {key: _over_frames(masks[:, 0], view.pictures) for key, masks in found.items()}

    def of_clip(self, view: ClipView) -> Callable[[int], np.ndarray]:
        """A function from a frame's index in a clip to its contact sheet."""
        masks = self.clip_masks(view)
        return lambda index: self._sheet(view.pictures[index], {key: m[index] for key, m in masks.items()})

    def _sheet(self, picture: np.ndarray, masks: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
        if self.keep_scale and self.limits is None:
            self.limits = {key: value_range(mask) for key, mask in masks.items()}
        return contact_sheet(picture, masks, self.limits)


class AttentionFigure:
    """The masks of the first views in one picture, see :func:`attn_mm.maps.overlay.mask_rows`.

    Args:
        path: of the picture; JSON with each mask's extremes and mean goes beside it.
        count: how many views, at most.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count
        self.rows: list[tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]] = []
        self.names: list[str] = []

    def add(self, name: str, picture: np.ndarray, masks: dict[tuple[int, int], np.ndarray]) -> None:
        """Take in a view, if there is room left."""
        if len(self.rows) < self.count:
            self.names.append(name)
            self.rows.append((picture, masks))

    def write(self) -> None:
        """Write the picture and the JSON; UserError where that fails."""
        if not self.rows:
            return
        write_image(self.path, mask_rows(self.rows))
        record = [
            {
                "view": name,
                "masks": [
                    {
                        "stage": stage + 1,
                        "flow": flow,
                        "lowest": round(float(mask.min()), 5),
                        "mean": round(float(mask.mean()), 5),
                        "highest": round(float(mask.max()), 5),
                    }
                    for (stage, flow), mask in sorted(masks.items())
                ],
            }
            for name, (_, masks) in zip(self.names, self.rows)
        ]
        write_atomically(self.path.with_suffix(".json"), json.dumps(record, indent=1) + "\n")


def _over_frames(masks: Tensor, pictures: list[np.ndarray]) -> np.ndarray:
    """Masks ``(clips, t, h, w)``, or ``(frames, h, w)`` of a 2D network, on the pixels of the pictures."""
    clips = masks.float().cpu().numpy()
    clips = clips[None] if clips.ndim == 3 else clips
    size = (len(pictures) // len(clips), *pictures[0].shape[:2])
    return np.concatenate([fit_to_image(clip, size) for clip in clips])
