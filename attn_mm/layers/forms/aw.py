"""Implementations of a convolution whose weights are scaled differently for each sample.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eq. 5: sample n is convolved with ``weight * s[n]``, where
``s = 1 + A``, or ``s = A`` without the identity. All forms give the same result; they differ in cost
and in where they can be used. If ``s`` is the same for all input channels, it can multiply the output of
each kernel position instead, so that no weights per sample are needed.

Shapes, for images (videos have one more dimension everywhere)::

    x       (N, C1, H, W)
    weight  (C2, C1 / groups, h, w)
    s       (N, C2, 1 or C1 / groups, h or 1, w or 1)
    bias    (C2,) or None

``stride``, ``padding`` and ``dilation`` are tuples of numbers. The forms with their own
backward (``loop``, ``shift``, ``taps``, ``fused``) can be differentiated only once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_mm.layers.forms import triton as kernels
from attn_mm.layers.ops.dims import convolve, per_channel
from attn_mm.layers.ops.execution import is_traced, is_transformed, shortcuts_enabled
from attn_mm.layers.ops.precision import wide_type

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_HALF = (torch.bfloat16, torch.float16)
_KERNEL_TYPES = (*_HALF, torch.float32)
# Number of weights, over several samples, that an accelerator processes at once.
_WEIGHTS_AT_ONCE = 2**25


def choose_form(
    x: Tensor, weight: Tensor, s: Tensor, stride: Sequence[int], positions: int, groups: int
) -> str:
    """Choose the fastest form that works for these tensors.

    Args:
        x, weight, s: as in the module's docstring.
        stride, groups: those of the convolution.
        positions: number of positions of the output.

    Returns:
        The form's name in :data:`FORMS`.
    """
    batch = x.shape[0]
    over_inputs, over_positions = s.shape[2] > 1, s.shape[3:].numel() > 1
    only_over_outputs = not (over_inputs or over_positions)
    if is_traced():
        # A symbolic batch size may differ when the graph runs.
        return "scale" if only_over_outputs else "grouped" if type(batch) is int else "matmul"
    if batch == 0:
        return "matmul"
    if not shortcuts_enabled():
        return "grouped"
    if only_over_outputs:
        return "scale"
    if is_transformed():
        return "grouped"
    on_cpu, one_group = _is_on_cpu(x), groups == 1 and not over_inputs
    if not on_cpu and one_group and x.dim() == 4 and x.dtype in _KERNEL_TYPES and kernels.usable(x):
        return "fused"
    if not (one_group and _scales_products(x, weight, s, stride, positions)):
        return "grouped" if on_cpu and _groups_are_fast(x, weight, s, stride) else "loop"
    if not on_cpu:
        return "taps"
    # With more than nine kernel positions, their outputs need too much memory.
    if weight[0, 0].numel() > 9:
        return "loop"
    return "shift" if x.dim() == 4 and max(stride) == 1 else "taps"


def _scales_products(x: Tensor, weight: Tensor, s: Tensor, stride: Sequence[int], positions: int) -> bool:
    """Whether scaling each kernel position's products costs less than weights for each sample.

    The fewer output positions share them, the more weights per sample cost. See benchmarks/forms.py for
    the measurements.
    """
    # A position's product may overflow in float16, where the sum of all positions would not.
    if x.dtype == torch.float16:
        return False
    # torch's weight gradient of a 3D convolution in bfloat16 is wrong for two frames, but not that of groups.
    if x.dtype == torch.bfloat16 and weight[0, 0].numel() > 9:
        return False
    if not _is_on_cpu(x):
        # On accelerators, bfloat16 has not been measured.
        return x.dtype != torch.bfloat16 and positions < len(weight)
    few, very_few = positions <= len(weight), 4 * positions <= len(weight)
    trains = _trains(x, weight, s)
    if len(x) == 1:
        # For one sample it is a plain convolution: where s is 1, bit for bit the upstream result.
        return False
    if len(x) == 2:
        return very_few and (trains or is_channels_last(x))
    if max(stride) == 1:
        return few
    return very_few or (few and trains and is_channels_last(x))


def _groups_are_fast(x: Tensor, weight: Tensor, s: Tensor, stride: Sequence[int]) -> bool:
    """Whether one convolution of all samples is faster on a CPU than one convolution for each sample.

    It runs with channels first. The conversion costs little beside a backward pass or narrow convolutions,
    which are slow one by one.
    """
    if not is_channels_last(x) or len(weight) < 64:
        return True
    return _trains(x, weight, s) and max(stride) == 1


def _trains(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _is_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def scale(x, weight, s, bias, stride, padding, dilation, groups):
    """Convolve with the shared weights, then scale the output channels; for ``s`` of ``(N, C2, 1, 1, 1)``."""
    y = convolve(x, weight, None, stride, padding, dilation, groups)
    s = s.squeeze(2)
    y_scaled = y * s if bias is None else torch.addcmul(bias.view(-1, *s.shape[2:]), y, s)
    return y_scaled.to(y.dtype)


def grouped(x, weight, s, bias, stride, padding, dilation, groups):
    """Run the samples as groups of one convolution; a captured graph then has a fixed batch size."""
    batch = x.shape[0]
    folded = x.reshape(1, -1, *x.shape[2:])
    bias = None if bias is None else bias.repeat(batch)
    weights = (weight * s).flatten(0, 1)
    if batch > 1:
        # oneDNN is several times as slow at many groups if the weights are channels last.
        weights = weights.contiguous()
    y = convolve(folded, weights, bias, stride, padding, dilation, batch * groups)
    return _laid_out_as(x, y.reshape(batch, weight.shape[0], *y.shape[2:]))


def matmul(x, weight, s, bias, stride, padding, dilation, groups):
    """Do a batched matrix product per kernel position; for graphs of any batch size and for empty batches."""
    size = output_size(x, weight, stride, padding, dilation)
    weights = (weight * s).flatten(3).unflatten(1, (groups, -1))
    x = _zero_padded(x, padding)
    y: Any = 0
    for index, at in enumerate(itertools.product(*map(range, weight.shape[2:]))):
        seen = x
        for dim, (i, d, st, n) in enumerate(zip(at, dilation, stride, size), start=2):
            # torch.export can't prove the bounds of strided slices of unknown size.
            seen = seen.index_select(dim, torch.arange(n, device=x.device) * st + i * d)
        y = y + weights[..., index] @ seen.flatten(2).unflatten(1, (groups, -1))
    y = y.flatten(1, 2).unflatten(2, size)
    return y if bias is None else y + per_channel(bias.to(y.dtype), y)


def loop(x, weight, s, bias, stride, padding, dilation, groups):
    """Convolve a few samples at a time; the backward pass recomputes their weights instead of keeping them.

    A CPU processes one sample at a time; other devices as many as keep them busy.
    """
    return _Loop.apply(x, weight, s, bias, stride, padding, dilation, groups)


def shift(x, weight, s, bias, stride, padding, dilation, groups):
    """Compute all kernel positions' outputs by one 1x1 convolution, then scale, shift and add them.

    For images, stride 1, one group, and ``s`` that is the same for all input channels.
    """
    return _Shift.apply(x, weight, s, bias, padding, dilation)


def taps(x, weight, s, bias, stride, padding, dilation, groups):
    """Run a 1x1 convolution for each kernel position, scale the outputs and add them.

    For ``s`` that is the same for all input channels.
    """
    return _Taps.apply(x, weight, s, bias, stride, padding, dilation, groups)


def fused(x, weight, s, bias, stride, padding, dilation, groups):
    """Scale and add the products of the kernel positions in Triton kernels, forward and backward.

    For images, one group, ``s`` that is the same for all input channels, and devices for which
    :func:`attn_mm.layers.forms.triton.usable` is true.
    """
    return _Fused.apply(x, weight, s, bias, stride, padding, dilation, groups)


FORMS = {form.__name__: form for form in (scale, grouped, matmul, loop, shift, taps, fused)}


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` is channels last in memory, and not also contiguous as channels first."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=_CHANNELS_LAST[x.dim()])


def _laid_out_as(x: Tensor, y: Tensor) -> Tensor:
    """Convert ``y`` to the memory format of ``x``, because mixed formats slow down every addition."""
    return y.contiguous(memory_format=_memory_format(x))


def _memory_format(x: Tensor) -> torch.memory_format:
    return _CHANNELS_LAST[x.dim()] if is_channels_last(x) else torch.contiguous_format


def output_size(x: Tensor, weight: Tensor, stride, padding, dilation) -> list[int]:
    """The spatial size of the convolution's output."""
    per_dim = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return [(n + 2 * p - d * (k - 1) - 1) // st + 1 for n, k, st, p, d in per_dim]


def _zero_padded(x: Tensor, padding: Sequence[int]) -> Tensor:
    return F.pad(x, [p for p in reversed(padding) for _ in range(2)]) if any(padding) else x


def _windows(weight: Tensor, size, stride, dilation) -> Iterator[tuple[int, tuple]]:
    """For each kernel position, its number and the index of the part of the padded input that it sees."""
    for index, at in enumerate(itertools.product(*map(range, weight.shape[2:]))):
        firsts = [i * d for i, d in zip(at, dilation)]
        window = [slice(i, i + st * (n - 1) + 1, st) for i, st, n in zip(firsts, stride, size)]
        yield index, (slice(None), slice(None), *window)


def _bias_gradient(ctx, grad: Tensor) -> Tensor | None:
    return grad.sum([0, *range(2, grad.dim())]) if ctx.needs_input_grad[3] else None


def _conv_gradients(grad, x, weight, stride, padding, dilation, groups, wanted):
    """Gradients of a bias-free convolution's input and weight; None for those not ``wanted``."""
    no_output_padding = [0] * len(stride)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, no_output_padding, groups, [*wanted, False]
    )[:2]


def _at_once(x: Tensor, weight: Tensor) -> int:
    return 1 if _is_on_cpu(x) else max(1, _WEIGHTS_AT_ONCE // weight.numel())


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, s, bias, stride, padding, dilation, groups):
        ctx.save_for_backward(x, weight, s)
        ctx.conv = stride, padding, dilation, groups
        few = _at_once(x, weight)
        shape = len(x), len(weight), *output_size(x, weight, stride, padding, dilation)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_memory_format(x))
        for x_n, s_n, y_n in zip(x.split(few), s.split(few), y.split(few)):
            y_n.copy_(grouped(x_n, weight, s_n, bias, *ctx.conv))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, s = ctx.saved_tensors
        gradients = _gradients_by_samples(grad, x, weight, s, ctx.conv, ctx.needs_input_grad[:3])
        return *gradients, _bias_gradient(ctx, grad), *[None] * 4


def _gradients_by_samples(grad, x, weight, s, conv, wanted):
    """Gradients of ``x``, ``weight`` and ``s``, computed a few samples at a time; None if not ``wanted``."""
    stride, padding, dilation, groups = conv
    for_x, for_weight, for_s = wanted
    grad_weight = torch.zeros_like(weight) if for_weight else None
    grad_x = torch.empty_like(x) if for_x else None
    grads_s = []
    few = _at_once(x, weight)
    for first, x_n, s_n, grad_n in zip(range(0, len(x), few), x.split(few), s.split(few), grad.split(few)):
        n = len(x_n)
        grad_x_n, grad_scaled = _conv_gradients(
            grad_n.reshape(1, -1, *grad.shape[2:]),
            x_n.reshape(1, -1, *x.shape[2:]),
            (weight * s_n).to(x.dtype).flatten(0, 1),
            *(stride, padding, dilation, n * groups),
            (for_x, for_weight or for_s),
        )
        if grad_x is not None:
            grad_x[first : first + n] = grad_x_n.reshape(x_n.shape)
        if grad_scaled is not None:
            grad_scaled = grad_scaled.unflatten(0, (n, -1)).to(weight.dtype)
        if for_weight:
            grad_weight += (grad_scaled * s_n).sum(0)
        if for_s:
            grads_s.append((grad_scaled * weight).sum_to_size(s_n.shape))
    return grad_x, grad_weight, torch.cat(grads_s) if for_s else None


class _Shift(torch.autograd.Function):
    """All but the weights is (N, H, W, C) here, so that each product reads adjacent memory."""

    @staticmethod
    def forward(ctx, x, weight, s, bias, padding, dilation):
        z = F.conv2d(x.contiguous(memory_format=torch.channels_last), _positions_as_channels(weight))
        z = z.permute(0, 2, 3, 1).unflatten(3, (-1, weight.shape[0]))
        size = output_size(x, weight, (1, 1), padding, dilation)
        shape = len(x), len(weight), *size
        # Autograd forbids overwriting a view that a function returns, so y must not be a view.
        y = torch.empty(shape, dtype=wide_type(z), device=z.device, memory_format=torch.channels_last)
        y.zero_() if bias is None else y.copy_(per_channel(bias, y))
        y_nhwc = y.permute(0, 2, 3, 1)
        ctx.moves = list(_moves(x, weight, size, padding, dilation))
        for to, source, s_position in zip(*zip(*ctx.moves), _positions_first(s)):
            y_nhwc[to].addcmul_(z[source], s_position)
        ctx.save_for_backward(x, weight, s, z)
        return _laid_out_as(x, y.to(z.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, s, z = ctx.saved_tensors
        for_x, for_weight, for_s, _ = ctx.needs_input_grad[:4]
        grad_nhwc = grad.permute(0, 2, 3, 1).contiguous()
        grad_z, grads_s = z.new_zeros(z.shape), []
        for (to, source), s_position in zip(ctx.moves, _positions_first(s)):
            torch.mul(grad_nhwc[to], s_position, out=grad_z[source])
            if for_s:
                grads_s.append((grad_nhwc[to] * z[source]).sum((1, 2), dtype=wide_type(z)))
        grad_x: Tensor | None = None
        grad_weight: Tensor | None = None
        if for_x or for_weight:
            grad_x, grad_weight = _conv_gradients(
                grad_z.flatten(3).permute(0, 3, 1, 2),
                x.contiguous(memory_format=torch.channels_last),
                _positions_as_channels(weight.to(z.dtype)),
                *((1, 1), (0, 0), (1, 1), 1),
                (for_x, for_weight),
            )
        if grad_weight is not None:
            grad_weight = (
                grad_weight.view(*weight.shape[2:], *weight.shape[:2]).permute(2, 3, 0, 1).contiguous()
            )
        return (
            None if grad_x is None else _laid_out_as(x, grad_x),
            grad_weight,
            torch.stack(grads_s, -1).view(s.shape) if for_s else None,
            _bias_gradient(ctx, grad),
            *[None] * 2,
        )


def _positions_as_channels(weight: Tensor) -> Tensor:
    """Reshape ``(C2, C1, h, w)`` to the 1x1 kernel ``(h * w * C2, C1, 1, 1)``."""
    return per_channel(weight.flatten(2).permute(2, 0, 1).reshape(-1, weight.shape[1]), weight)


def _positions_first(s: Tensor) -> Tensor:
    """Reshape ``(N, C2, 1, h, w)`` to ``(h * w, N, 1, 1, C2)``."""
    return s.flatten(2).permute(2, 0, 1)[:, :, None, None].contiguous()


def _moves(x: Tensor, weight: Tensor, size, padding, dilation) -> Iterator[tuple[tuple, tuple]]:
    """For each kernel position, the index of its target in (N, H, W, C) and source in (N, H, W, h * w, C)."""
    for index, at in enumerate(itertools.product(*map(range, weight.shape[2:]))):
        to, source = [], []
        for i, n_in, n_out, p, d in zip(at, x.shape[2:], size, padding, dilation):
            by = i * d - p
            first = max(0, -by)
            end = max(first, min(n_out, n_in - by))
            to.append(slice(first, end))
            source.append(slice(first + by, end + by))
        yield (slice(None), *to), (slice(None), *source, index)


class _Taps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, s, bias, stride, padding, dilation, groups):
        ctx.conv = stride, padding, dilation, groups
        windows = _windows(weight, output_size(x, weight, stride, padding, dilation), stride, dilation)
        x_padded, kernels_1x1 = _zero_padded(x, padding), _positions_as_channels(weight).split(len(weight))
        y: Any = None
        outputs = []
        for index, window in windows:
            z = convolve(x_padded[window], kernels_1x1[index], groups=groups)
            s_position = per_channel(s.flatten(2)[..., index], z).to(wide_type(z))
            y = z * s_position if y is None else y.addcmul_(z, s_position)
            # On an accelerator, recomputing them costs less than keeping them in memory.
            if _is_on_cpu(x):
                outputs.append(z)
        ctx.save_for_backward(x, weight, s, *outputs)
        y = y if bias is None else y.add_(per_channel(bias, y))
        return _laid_out_as(x, y.to(z.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        gradients = _gradients_by_positions(
            grad, *ctx.saved_tensors, conv=ctx.conv, wanted=ctx.needs_input_grad[:3]
        )
        return *gradients, _bias_gradient(ctx, grad), *[None] * 4


def _gradients_by_positions(grad, x, weight, s, *outputs, conv, wanted):
    """Gradients of ``x``, ``weight`` and ``s``, one product per kernel position; None if not ``wanted``.

    ``outputs`` are the positions' unscaled outputs; they are recomputed if not given.
    """
    stride, padding, dilation, groups = conv
    for_x, for_weight, for_s = wanted
    stride_1, padding_0, dilation_1 = ([n] * (x.dim() - 2) for n in (1, 0, 1))
    x_padded = _zero_padded(x, padding)
    kernels_1x1 = _positions_as_channels(weight.to(x.dtype)).split(len(weight))
    grad_padded = torch.zeros_like(x_padded, dtype=wide_type(x)) if for_x else None
    grads_weight, grads_s = [], []
    for index, window in _windows(weight, grad.shape[2:], stride, dilation):
        position = kernels_1x1[index]
        if for_x or for_weight:
            grad_x_seen, grad_position = _conv_gradients(
                (grad * per_channel(s.flatten(2)[..., index], grad)).to(x.dtype),
                x_padded[window],
                position,
                *(stride_1, padding_0, dilation_1, groups),
                (for_x, for_weight),
            )
        if grad_padded is not None:
            grad_padded[window] += grad_x_seen
        if for_weight:
            grads_weight.append(grad_position.flatten(1))
        if for_s:
            z = outputs[index] if outputs else convolve(x_padded[window], position, groups=groups)
            grads_s.append((grad * z).sum([*range(2, grad.dim())], dtype=wide_type(z)))
    inside = [slice(None)] * 2 + [slice(p, p + n) for p, n in zip(padding, x.shape[2:])]
    return (
        None if grad_padded is None else _laid_out_as(x, grad_padded[tuple(inside)].to(x.dtype)),
        torch.stack(grads_weight, -1).view(weight.shape) if for_weight else None,
        torch.stack(grads_s, -1).view(s.shape) if for_s else None,
    )


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, s, bias, stride, padding, dilation, groups):
        from attn_mm.layers.forms.aw_triton import aw_conv

        ctx.save_for_backward(x, weight, s)
        ctx.conv = stride, padding, dilation
        return aw_conv(x, weight, s, bias, *ctx.conv)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        from attn_mm.layers.forms.aw_triton import aw_conv_gradients

        x, weight, s = ctx.saved_tensors
        stride, padding, dilation = ctx.conv
        wanted = ctx.needs_input_grad[:3]
        gradients = aw_conv_gradients(grad, x, weight, s, stride, padding, dilation, wanted)
        return *gradients, _bias_gradient(ctx, grad), *[None] * 4
