"""The score that Grad-CAM explains for an mmpose model: the maximum of a keypoint's heatmap."""

from __future__ import annotations

from torch import Tensor, nn

from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import Target


def keypoint_target(model: nn.Module, inputs: Tensor, keypoint: int) -> Target:
    """The maximum of a keypoint's heatmap, summed over the batch.

    Args:
        model: an mmpose model that predicts heatmaps.
        inputs: ``(N, C, h, w)``, each the crop of a person.
        keypoint: index of the keypoint.

    Raises:
        UserError: when run, if the model gives no heatmaps, or has no such keypoint.
    """

    def run() -> Tensor:
        heatmaps = model(inputs, None, mode="tensor")
        if not isinstance(heatmaps, Tensor) or heatmaps.dim() != 4:
            raise UserError(f"{type(model).__name__} gives no heatmaps of keypoints")
        if not 0 <= keypoint < heatmaps.shape[1]:
            raise UserError(f"there is no keypoint {keypoint}: the model knows 0 to {heatmaps.shape[1] - 1}")
        return heatmaps[:, keypoint].amax((1, 2)).sum()

    return run
