"""What a class activation map of an mmaction recogniser explains: the score of an action."""

from __future__ import annotations

from torch import Tensor, nn

from attn_mm.frameworks.prediction import Target, check_scores


def action_target(model: nn.Module, inputs: Tensor, label: int) -> Target:
    """The score of an action before softmax, of an mmaction recogniser that sees frames.

    Args:
        inputs: ``(clips, C, T, h, w)``, or ``(frames, C, h, w)`` of a 2D network.

    Raises:
        UserError: when run, where the model gives no scores of classes, or has no such class.
    """

    def run() -> Tensor:
        scores = model(inputs[None], mode="tensor", stage="head")
        check_scores(model, scores, label)
        return scores[:, label].sum()

    return run
