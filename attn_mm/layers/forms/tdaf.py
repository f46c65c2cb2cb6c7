"""Multiply a map by a mask in place, also in training.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), eq. 5: y = x m, with a mask m > 0 shared by all
channels. Since x = y / m, the backward pass needs only y and m:

    grad x = m grad y        grad m = sum_c (grad y) y / m

If x is the output of a ReLU, the ReLU's backward pass uses only the sign of x, and y has the same sign.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_mm.layers.ops.execution import is_traced, is_transformed, shortcuts_enabled
from attn_mm.layers.ops.precision import wide_type

# Operations whose backward pass doesn't need their output, or only its sign.
_INDIFFERENT = ("ReluBackward0", "MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0")


def mask_in_place(x: Tensor, mask: Tensor) -> Tensor:
    """Compute ``x * mask``, overwriting ``x`` if autograd allows it.

    Args:
        x: ``(N, C, *size)``; nothing else may read it afterwards.
        mask: ``(N, 1, *size)``, positive.

    Returns:
        ``(N, C, *size)`` in the type of ``x * mask``. It can be differentiated only once.
    """
    as_written = is_traced() or is_transformed() or not shortcuts_enabled()
    if as_written or torch.result_type(x, mask) != x.dtype:
        return x * mask
    if not (torch.is_grad_enabled() and (x.requires_grad or mask.requires_grad)):
        return x.mul_(mask)
    if type(x.grad_fn).__name__ in _INDIFFERENT:
        return _MaskInPlace.apply(x, mask)
    return x * mask


class _MaskInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask):
        # Bypass autograd, which can't know that the ReLU that made x only needs its sign.
        y = x.data.mul_(mask)
        ctx.save_for_backward(y, mask)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, mask = ctx.saved_tensors
        grad_mask = None
        if ctx.needs_input_grad[1]:
            grad_mask = (grad * y).sum(1, keepdim=True, dtype=wide_type(y)).div_(mask).to(mask.dtype)
        return grad * mask, grad_mask
