"""The score that Grad-CAM explains for an mmpretrain classifier: that of one class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from attn_mm.frameworks.prediction import Target, check_scores


def class_target(model: nn.Module, inputs: Tensor, labels: int | Sequence[int]) -> Target:
    """The score of a class before softmax or sigmoid, summed over the batch.

    For an LTPA head that averages the probabilities of its levels: the logarithm of the average.

    Args:
        model: an mmpretrain classifier.
        inputs: ``(N, C, h, w)``.
        labels: index of the class, or of one class for each image.

    Raises:
        UserError: when run, if the model gives no scores of classes, or has no such class.
    """
    labels = [labels] * len(inputs) if isinstance(labels, int) else list(labels)

    def run() -> Tensor:
        scores = model(inputs, mode="tensor")
        check_scores(model, scores, max(labels))
        return scores[range(len(labels)), labels].sum()

    return run
