"""Fast implementations of TAM's tree and gate.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2.

Grouped 1x1 convolutions of few channels are slow. Here each level instead adds up
strided slices of the channels, one piece of the map at a time, and the backward pass
recomputes the tree from the input. The sums are the same, but no tree is kept in memory.
On a CUDA device with Triton, :mod:`attn_mm.layers.forms.tam_triton` computes the whole
tree in one pass.

The functions receive the tree as a list of parameters: weight, bias and PReLU slopes of
each level, from the input upwards; the top level has no slopes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_mm.layers.forms import triton as kernels
from attn_mm.layers.ops.pieces import pieces
from attn_mm.layers.ops.precision import no_autocast, wide_type


def tree_gate(
    x: Tensor, parameters: Sequence[Tensor], form: str | None = None, shortcut: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Multiply ``x`` by its gate, and add any ``shortcut``; the result can be differentiated only once.

    Args:
        x: ``(N, C, *size)``; with a shortcut, and without gradients, the sum may overwrite it.
        parameters: the tree, see the module's docstring.
        form: ``'kernel'`` or ``'pieces'``; None uses the kernel if it is available.
        shortcut: a tensor of the shape and type of ``x``.

    Returns:
        The product or sum, ``(N, C, *size)``, and the gate, ``(N, 1, *size)``.
    """
    form = form or ("kernel" if has_kernel(x, parameters) else "pieces")
    if torch.is_grad_enabled():
        return _TreeGate.apply(form, shortcut, x, *parameters)
    return _FORWARDS[form](x, parameters, shortcut, x if shortcut is not None else None)


def sliced(x: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """:func:`tree_gate` for compilers and transforms: in one piece, with torch's own backward pass."""
    with no_autocast(x):
        dtype = wide_type(x)
        gate = _climb(x.to(dtype), _levels(parameters, dtype)).sigmoid()
        return (x * gate).to(x.dtype), gate


def _levels(parameters, dtype):
    """Per level: the weights for each child, the bias, and the slopes (None at the top)."""
    levels = []
    for weight, bias, slope in zip(parameters[0::3], parameters[1::3], [*parameters[2::3], None]):
        children = weight.to(dtype).unbind(1)
        bias = bias.to(dtype).view_as(children[0])
        levels.append((children, bias, slope if slope is None else slope.to(dtype)))
    return levels


def _climb(x: Tensor, levels, trail: list | None = None) -> Tensor:
    """Compute the top of the tree over ``x``; ``trail`` collects each level's input and sum."""
    for children, bias, slope in levels:
        group = len(children)
        total = x[:, 0::group] * children[0]
        for i in range(1, group):
            total.addcmul_(x[:, i::group], children[i])
        total.add_(bias)
        if trail is not None:
            trail.append((x, total))
        x = total if slope is None else F.prelu(total, slope)
    return x


def has_kernel(x: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether a Triton kernel can compute this tree on the device of ``x``."""
    if not kernels.usable(x):
        return False
    from attn_mm.layers.forms.tam_triton import fits

    return fits(x.shape[1], _group_size(parameters))


def _by_kernel(x: Tensor, parameters, shortcut: Tensor | None, out: Tensor | None) -> tuple[Tensor, Tensor]:
    from attn_mm.layers.forms.tam_triton import tree_gate

    y, gate = tree_gate(x, parameters, _group_size(parameters))
    return (y if shortcut is None else y.add_(shortcut)), gate


def _gradients_by_kernel(grad_y: Tensor, x: Tensor, gate: Tensor, parameters):
    from attn_mm.layers.forms.tam_triton import tree_gate_gradients

    return tree_gate_gradients(grad_y, x, gate, parameters, _group_size(parameters))


def _group_size(parameters) -> int:
    return parameters[0].shape[1]


def _in_pieces(x: Tensor, parameters, shortcut: Tensor | None, out: Tensor | None) -> tuple[Tensor, Tensor]:
    dtype = wide_type(x)
    levels = _levels(parameters, dtype)
    y = torch.empty_like(x) if out is None else out
    gate = x.new_empty(x.shape[0], 1, *x.shape[2:], dtype=dtype)
    with no_autocast(x):
        for piece in pieces(x):
            part = x[piece].to(dtype)
            torch.sigmoid(_climb(part, levels), out=gate[piece])
            if shortcut is None:
                torch.mul(part, gate[piece], out=y[piece])
            else:
                # The piece is still in the caches, so the sum costs almost nothing here.
                torch.addcmul(shortcut[piece], part, gate[piece], out=y[piece])
    return y, gate


_FORWARDS = {"kernel": _by_kernel, "pieces": _in_pieces}


class _TreeGate(torch.autograd.Function):
    """Keeps only the input and the gate for the backward pass.

    It runs without autocast, which would round the PReLUs; the pieces are small enough for full precision.
    """

    @staticmethod
    def forward(ctx, form, shortcut, x, *parameters):
        ctx.form = form
        y, gate = _FORWARDS[form](x, parameters, shortcut, None)
        ctx.save_for_backward(x, gate, *parameters)
        ctx.mark_non_differentiable(gate)
        ctx.set_materialize_grads(False)
        return y, gate

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _):
        x, gate, *parameters = ctx.saved_tensors
        by = _gradients_by_kernel if ctx.form == "kernel" else _gradients_in_pieces
        grad_x, grads = by(grad_y, x, gate, parameters)
        grad_shortcut = grad_y if ctx.needs_input_grad[1] else None
        return None, grad_shortcut, grad_x, *(grad.to(p.dtype) for grad, p in zip(grads, parameters))


def _gradients_in_pieces(grad_y: Tensor, x: Tensor, gate: Tensor, parameters):
    dtype = gate.dtype
    levels = _levels(parameters, dtype)
    grad_x = torch.empty_like(x)
    grads = [torch.zeros_like(p, dtype=dtype) for p in parameters]
    with no_autocast(x):
        for piece in pieces(x):
            grad_x[piece] = _backward_piece(
                x[piece].to(dtype), gate[piece], grad_y[piece].to(dtype), levels, grads
            )
    return grad_x, grads


def _backward_piece(x: Tensor, gate: Tensor, grad_y: Tensor, levels, grads: list[Tensor]) -> Tensor:
    """Compute the gradient of ``x`` and add the parameters' gradients to ``grads``."""
    trail: list[tuple[Tensor, Tensor]] = []
    _climb(x, levels, trail)
    but_channels = [d for d in range(x.dim()) if d != 1]
    grad = (grad_y * x).sum(1, keepdim=True) * (gate * (1 - gate))
    for level in reversed(range(len(levels))):
        (children, _, slope), (below, total) = levels[level], trail[level]
        if slope is not None:
            grads[3 * level + 2] += total.clamp(max=0).mul_(grad).sum(but_channels)
            slope = slope.view_as(children[0])
            # The slope where the sum is not positive, elsewhere 1 to the rounding of 1 - slope. Boolean maps
            # are several times as slow.
            grad.mul_(total.gt_(0).mul_(1 - slope).add_(slope))
        grads[3 * level + 1] += grad.sum(but_channels)
        group = len(children)
        grad_below = torch.empty_like(below) if level else grad_y * gate
        for i, child in enumerate(children):
            grads[3 * level][:, i] += (grad * below[:, i::group]).sum(but_channels).view_as(child)
            if level:
                torch.mul(grad, child, out=grad_below[:, i::group])
            else:
                grad_below[:, i::group].addcmul_(grad, child)
        grad = grad_below
    return grad
