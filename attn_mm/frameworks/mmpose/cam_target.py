"""The score that Grad-CAM explains for an mmpose model: that of a keypoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_mm.errors import UserError
from attn_mm.frameworks.prediction import Target


def keypoint_target(model: nn.Module, inputs: Tensor, keypoint: int) -> Target:
    """The score of a keypoint, summed over the batch.

    It is the maximum of the keypoint's heatmap. SimCC predicts a vector for each axis instead: the score is
    the smaller of their maxima, as mmpose's is.

    Args:
        model: an mmpose model that predicts heatmaps or SimCC's vectors.
        inputs: ``(N, C, h, w)``, each the crop of a person.
        keypoint: index of the keypoint.

    Raises:
        UserError: when run, if the model predicts neither, or has no such keypoint.
    """

    def run() -> Tensor:
        scores = _scores(model(inputs, None, mode="tensor"))
        if scores is None:
            raise UserError(f"{type(model).__name__} gives neither heatmaps nor SimCC's vectors of keypoints")
        if not 0 <= keypoint < scores.shape[1]:
            raise UserError(f"there is no keypoint {keypoint}: the model knows 0 to {scores.shape[1] - 1}")
        return scores[:, keypoint].sum()

    return run


def _scores(outputs) -> Tensor | None:
    """The scores, (N, keypoints), of a head's outputs; None if these are of another kind."""
    if isinstance(outputs, Tensor) and outputs.dim() == 4:
        return outputs.amax((2, 3))
    axes = outputs if isinstance(outputs, (list, tuple)) and len(outputs) == 2 else ()
    if axes and all(isinstance(axis, Tensor) and axis.dim() == 3 for axis in axes):
        return torch.minimum(*(axis.amax(2) for axis in axes))
    return None
