"""A plain forward of each framework's model: once through what attends, on an input that is ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn


def plain_forward(model: BaseModel, scope: str) -> Callable[[Tensor], object]:
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


def forward_arguments(model: nn.Module, scope: str, shape: Sequence[int], device: str) -> tuple[Tensor, dict]:
    """What ``model`` takes to run on an image or clip of that shape, up to its heads' outputs."""
    x = torch.rand(1, *shape, device=device)
    if not isinstance(model, BaseModel):
        return x, {}
    if scope == "mmaction":
        volumes = any(isinstance(m, nn.Conv3d) for m in model.modules())
        # Recognizers take several clips, or frames, of a video.
        return x if len(shape) == 4 and not volumes else x[:, None], dict(mode="tensor", stage="head")
    samples = None
    if scope == "mmdet":
        from mmdet.structures import DetDataSample

        size = tuple(shape[-2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1, 1)
        )
        samples = [DetDataSample(metainfo=meta)]
    return x, dict(mode="tensor", data_samples=samples)
