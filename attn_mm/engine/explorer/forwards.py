"""A plain forward of each framework's model: once through what attends, on an input that is ready."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def plain_forward(model: nn.Module, scope: str) -> Callable[[Tensor], object]:
    """A function that runs ``model`` on its input once.

    A prediction may run it on a flipped or a cropped image as well, and cut the batch into pieces.

    Args:
        model: a model of the framework ``scope``.
        scope: ``default_scope`` of its config.
    """
    if scope == "mmaction":
        return model.backbone
    if scope == "mmdet":
        from mmdet.models.detectors import SingleStageDetector

        # The second stage of a detector asks for boxes.
        if not isinstance(model, SingleStageDetector):
            return model.extract_feat
    return lambda inputs: model(inputs, None, mode="tensor")
