"""What an mmsegmentation model gives for every pixel of a preprocessed input."""

from __future__ import annotations

from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.errors import UserError


def pixel_logits(model: BaseModel, inputs: Tensor) -> Tensor:
    """The logits of the classes of every pixel, differentiable.

    A sliding window and test-time augmentation are left out: the network runs once, on the whole input.

    Args:
        model: an mmsegmentation model.
        inputs: ``(N, C, h, w)``.

    Returns:
        ``(N, classes, h, w)``; a binary segmentor with one output gives ``(N, 1, h, w)``.

    Raises:
        UserError: the model gives no map of classes.
    """
    size = tuple(inputs.shape[-2:])
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
    decode = getattr(model, "encode_decode", None)
    logits = decode(inputs, [dict(meta) for _ in inputs]) if decode else model(inputs, None, mode="tensor")
    if not isinstance(logits, Tensor) or logits.dim() != 4:
        raise UserError(f"{type(model).__name__} gives no map of classes: a segmentor is needed")
    return logits
