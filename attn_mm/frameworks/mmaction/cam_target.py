"""The score that Grad-CAM explains for an mmaction recogniser: that of one action."""

from __future__ import annotations

from torch import Tensor, nn

from attn_mm.frameworks.prediction import Target, check_scores


def action_target(model: nn.Module, inputs: Tensor, label: int) -> Target:
    """The score of an action before softmax.

    Args:
        model: an mmaction recogniser that takes frames.
        inputs: ``(clips, C, T, h, w)``, or ``(frames, C, h, w)`` for a 2D network.
        label: index of the action.

    Raises:
        UserError: when run, if the model gives no scores of classes, or has no such class.
    """

    def run() -> Tensor:
        scores = model(inputs[None], mode="tensor", stage="head")
        check_scores(model, scores, label)
        return scores[:, label].sum()

    return run
