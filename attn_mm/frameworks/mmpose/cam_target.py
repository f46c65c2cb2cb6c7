"""What a class activation map of an mmpose model explains: the maximum of a keypoint's heatmap."""

from __future__ import annotations

from torch import Tensor, nn

from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import Target


def keypoint_target(model: nn.Module, inputs: Tensor, keypoint: int) -> Target:
    """The maximum of a keypoint's heatmap, of an mmpose model.

    Args:
        inputs: ``(N, C, h, w)``, the crop of a person each.
        keypoint: its place among the model's.

    Raises:
        UserError: when run, where the model gives no heatmaps, or has no such keypoint.
    """

    def run() -> Tensor:
        heatmaps = model(inputs, None, mode="tensor")
        if not isinstance(heatmaps, Tensor) or heatmaps.dim() != 4:
            raise UserError(f"{type(model).__name__} gives no heatmaps of keypoints")
        if not 0 <= keypoint < heatmaps.shape[1]:
            raise UserError(f"there is no keypoint {keypoint}: the model knows 0 to {heatmaps.shape[1] - 1}")
        return heatmaps[:, keypoint].amax((1, 2)).sum()

    return run
