"""What a class activation map of an mmpretrain classifier explains: the score of a class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from attn_mm.frameworks.prediction import Target, check_scores


def class_target(model: nn.Module, inputs: Tensor, labels: int | Sequence[int]) -> Target:
    """The score of a class before softmax or sigmoid, of an mmpretrain classifier.

    (An LTPA head that averages its levels' probabilities gives their logarithm.)

    Args:
        inputs: ``(N, C, h, w)``.
        labels: the class, or one for each image.

    Raises:
        UserError: when run, where the model gives no scores of classes, or has no such class.
    """
    labels = [labels] * len(inputs) if isinstance(labels, int) else list(labels)

    def run() -> Tensor:
        scores = model(inputs, mode="tensor")
        check_scores(model, scores, max(labels))
        return scores[range(len(labels)), labels].sum()

    return run
