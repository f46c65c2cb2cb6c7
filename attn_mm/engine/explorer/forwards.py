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
        head = getattr(model, "bbox_head", None)

        def detect(inputs: Tensor) -> object:
            features = model.extract_feat(inputs)
            return features if head is None else head(features)

        return detect
    return lambda inputs: model(inputs, mode="tensor")
