"""A map times a mask in the map's own memory.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), eq. 5: y = x m, with a mask m > 0 that all channels
share. As x = y / m, neither the map nor a product has to be kept beside y:

    grad x = m grad y        grad m = sum_c (grad y) y / m

A ReLU whose output is x looks in its backward pass at the sign of x alone, which is that of y.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_mm.layers.ops.execution import is_traced, shortcuts_enabled
from attn_mm.layers.ops.precision import wide_type

# What keeps no output for its backward pass, or needs no more than its sign.
_INDIFFERENT = ("ReluBackward0", "MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0")


def mask_in_place(x: Tensor, mask: Tensor) -> Tensor:
    """``x * mask``, written over ``x`` where autograd allows it; ``x`` has then lost its values.

    Args:
        x: ``(N, C, *size)``, a result that nobody else looks at.
        mask: ``(N, 1, *size)``, positive.

    Returns:
        ``(N, C, *size)`` of the type that ``x * mask`` has. It can be differentiated once.
    """
    if not shortcuts_enabled() or is_traced() or torch.result_type(x, mask) != x.dtype:
        return x * mask
    if not (torch.is_grad_enabled() and (x.requires_grad or mask.requires_grad)):
        return x.mul_(mask)
    if type(x.grad_fn).__name__ in _INDIFFERENT:
        return _MaskInPlace.apply(x, mask)
    return x * mask


class _MaskInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask):
        # Past autograd, which can't know that the ReLU behind x won't mind.
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
