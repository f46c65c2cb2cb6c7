"""Compute the average-pooled output of a convolution and batch norm without computing the output.

Top-down attention uses only the spatial average of a block's first pass
(eqs. 4-5 of Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided
Feature Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, there first as TDAN:
Top-Down Attention Networks)). Convolution, normalization and average are linear or affine,
so the average can be computed first:

* with fixed statistics, the same layers are applied to the input's averages, one for each
  kernel position;
* with the batch's statistics (Ioffe & Szegedy, https://arxiv.org/abs/1502.03167), the
  mean and variance of a 1x1 convolution's output follow from the mean and covariance
  of its input.

Both are exact; only the order of summation differs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight, conv3d_weight
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from attn_mm.layers.mfbn import MFBN, MFBN2d, MFBN3d, MFSyncBN
from attn_mm.layers.ops.dims import convolve, per_channel
from attn_mm.layers.ops.execution import is_traced, is_transformed, is_watched, shortcuts_enabled
from attn_mm.layers.ops.precision import no_autocast, result_type, wide_type

_CONV_WEIGHT_GRAD = {4: conv2d_weight, 5: conv3d_weight}
_STOCK = (
    (nn.Conv2d, (nn.BatchNorm2d, nn.SyncBatchNorm, MFBN2d, MFSyncBN)),
    (nn.Conv3d, (nn.BatchNorm3d, nn.SyncBatchNorm, MFBN3d, MFSyncBN)),
)
# Measured on an H200 by benchmarks/forms.py.
_NARROW = 256
_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward, MFBN.forward)


def pooled_conv_norm(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """Compute ``norm(conv(x))`` averaged over space, and update the statistics of ``norm`` as it would.

    Plain torch convolutions and batch norms use a shortcut if there is one. All other
    modules, modules with hooks, and everything inside
    :func:`~attn_mm.layers.ops.execution.as_written` run as written. While a graph is
    captured (``torch.compile``, ``torch.export``), only the shortcut for fixed
    statistics is used. The shortcuts for batch statistics can't be differentiated twice.

    Args:
        x: ``(N, C, *size)``, two or three spatial dimensions.
        conv: a convolution from ``C`` to ``K`` channels.
        norm: a norm over ``K`` channels.

    Returns:
        The averages, ``(N, K)``, in the type that the modules would return.
    """
    transformed = not is_traced() and is_transformed()
    if transformed or not (shortcuts_enabled() and _are_stock(x, conv, norm)):
        return _as_written(x, conv, norm)
    assert isinstance(conv, _ConvNd) and isinstance(norm, _BatchNorm)
    if not norm.training and norm.running_mean is not None:
        if _is_pointwise(conv) or _is_border_sum(conv):
            return _with_fixed_statistics(x, conv, norm)
        return _as_written(x, conv, norm)
    # Norms over several processes or flows compute their statistics themselves.
    if is_traced() or type(norm).forward is not _BatchNorm.forward:
        return _as_written(x, conv, norm)
    return _with_batch_statistics(x, conv, norm)


def _as_written(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    return _average(norm(conv(x)))


def _average(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), dtype=dtype)


def _are_stock(x: Tensor, conv: nn.Module, norm: nn.Module) -> bool:
    for stock_conv, stock_norms in _STOCK:
        if isinstance(conv, stock_conv):
            return (
                type(conv).forward is stock_conv.forward
                and type(conv)._conv_forward is stock_conv._conv_forward
                and isinstance(norm, stock_norms)
                and type(norm).forward in _FORWARDS
                and x.dim() == 2 + len(conv.kernel_size)
                and not any(is_watched(module) for module in (conv, norm))
            )
    return False


def _is_pointwise(conv: _ConvNd) -> bool:
    ones = (1,) * len(conv.kernel_size)
    zeros = (0,) * len(conv.kernel_size)
    return conv.kernel_size == ones and conv.stride == ones and conv.padding in (zeros, "same", "valid")


def _is_border_sum(conv: _ConvNd) -> bool:
    """Whether ``conv`` is 3x3, or 1x3x3 or 3x3x3 for video, with stride 1 and 'same' zero padding."""
    return (
        conv.kernel_size[-2:] == (3, 3)
        and set(conv.kernel_size) <= {1, 3}
        and set(conv.stride) == set(conv.dilation) == {1}
        and conv.padding in (tuple(k // 2 for k in conv.kernel_size), "same")
        and conv.padding_mode == "zeros"
    )


def _with_fixed_statistics(x: Tensor, conv: _ConvNd, norm: _BatchNorm) -> Tensor:
    result, wide = result_type(x), wide_type(x)
    with no_autocast(x):
        if _is_pointwise(conv):
            seen = _average(x, wide).unsqueeze(-1)
        else:
            seen = _border_averages(x, conv.kernel_size, wide)
        weight, mean, var = (t.to(wide) for t in (conv.weight, *_fixed_statistics(norm)))
        bias, gamma, beta = (None if t is None else t.to(wide) for t in (conv.bias, norm.weight, norm.bias))
        # A convolution with a single output position: its taps are the kernel's.
        pooled = F.conv1d(seen, weight.flatten(2), bias, groups=conv.groups).squeeze(-1)
        return F.batch_norm(pooled, mean, var, gamma, beta, training=False, eps=norm.eps).to(result)


def _fixed_statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None and var is not None
    return (mean[norm.flow_index()], var[norm.flow_index()]) if isinstance(norm, MFBN) else (mean, var)


def _border_averages(x: Tensor, kernel_size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Average what each kernel tap sees of ``x`` over the output positions: ``(N, C, taps)``.

    The tap one row up never sees the last row, the tap one row down never sees the first;
    the same holds for columns and for frames.
    """
    positions = math.prod(x.shape[2:])
    if x.dim() == 5:
        every_frame = x.sum(2, keepdim=True, dtype=dtype)
        if kernel_size[0] == 3:
            x = torch.cat([every_frame - x[:, :, -1:], every_frame, every_frame - x[:, :, :1]], 2)
        else:
            x = every_frame
    total = x.sum((-2, -1), dtype=dtype)
    none = torch.zeros_like(total)

    def per_tap(last: Tensor, first: Tensor) -> Tensor:
        return torch.stack([last, none, first], -1)

    rows = per_tap(x[..., -1, :].sum(-1, dtype=dtype), x[..., 0, :].sum(-1, dtype=dtype))
    columns = per_tap(x[..., -1].sum(-1, dtype=dtype), x[..., 0].sum(-1, dtype=dtype))
    edges = x[..., [-1, 0], :][..., [-1, 0]].to(total.dtype)
    last_row, first_row = (per_tap(edges[..., row, 0], edges[..., row, 1]) for row in (0, 1))
    # Each corner was subtracted twice, with its row and with its column.
    corners = torch.stack([last_row, torch.zeros_like(last_row), first_row], -2)
    seen = total[..., None, None] - rows[..., :, None] - columns[..., None, :] + corners
    return seen.flatten(2) / positions


def _with_batch_statistics(x: Tensor, conv: _ConvNd, norm: _BatchNorm) -> Tensor:
    result = result_type(x)
    count = x.numel() // x.shape[1]
    if count > 1 and covariance_is_cheaper(conv, count):
        top, mean, var = from_covariance(x, conv, norm)
    else:
        y = conv(x)
        count = y.numel() // y.shape[1]
        if count <= 1:
            return _average(norm(y))
        top, mean, var = from_output(y, norm)
    _track(norm, mean, var * (count / (count - 1)))
    return top.to(result)


def covariance_is_cheaper(conv: _ConvNd, count: int) -> bool:
    """Whether covariances of the input cost less than the convolution, forward and backward together.

    Compares two products of the input with C x C matrices and two of K x C with C x C to
    three of the input with K x C; the margin covers the copy of the input. On an accelerator
    passes over the maps cost more than products, so that only narrow inputs gain.

    Args:
        conv: the convolution, C to K channels.
        count: samples times positions.
    """
    if not _is_pointwise(conv) or conv.groups != 1 or conv.bias is not None:
        return False
    c, k = conv.in_channels, conv.out_channels
    if conv.weight.device.type != "cpu":
        return c < _NARROW and c < k
    return 2 * c * count + 2 * k * c < 0.75 * 3 * k * count


def from_covariance(x: Tensor, conv: _ConvNd, norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the pooled norm from the mean and covariance of a bias-free 1x1 convolution's input.

    Args:
        x: the input, ``(N, C, *size)``.
        conv: the convolution, C to K channels.
        norm: the norm over K channels.

    Returns:
        The average ``(N, K)``, and mean and variance ``(K,)`` of the convolution's output.
    """
    with no_autocast(x):
        return _FromCovariance.apply(x, conv.weight, norm.weight, norm.bias, norm.eps)


def from_output(y: Tensor, norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the same as :func:`from_covariance` from the convolution's output ``y`` ``(N, K, *size)``."""
    with no_autocast(y):
        return _FromOutput.apply(y, norm.weight, norm.bias, norm.eps)


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, unbiased_var: Tensor) -> None:
    if not (norm.training and norm.track_running_stats):
        return
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    momentum = 0.0 if momentum is None else momentum
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased_var.to(norm.running_var.dtype), momentum)


def _normalize(centred: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float):
    """Normalize the ``centred`` averages ``(N, K)``; also returns the scale and 1/std."""
    inv_std = (var + eps).rsqrt()
    gamma, beta = (None if t is None else t.to(var.dtype) for t in (gamma, beta))
    scale = inv_std if gamma is None else inv_std * gamma
    return centred * scale if beta is None else torch.addcmul(beta, centred, scale), scale, inv_std


def _normalize_backward(ctx, grad: Tensor, centred: Tensor, scale: Tensor, inv_std: Tensor):
    """The gradients of the centred averages, the variance, gamma and beta."""
    grad = grad.to(scale.dtype)
    grad_scale = (grad * centred).sum(0)
    grad_var = -0.5 * grad_scale * scale * inv_std.square()
    *_, need_gamma, need_beta, _ = ctx.needs_input_grad
    grad_gamma = grad_scale * inv_std if need_gamma else None
    grad_beta = grad.sum(0) if need_beta else None
    return grad * scale, grad_var, grad_gamma, grad_beta


def _variance(y: Tensor, mean: Tensor) -> Tensor:
    """The biased variance ``(K,)`` of ``y``, whose mean is ``mean``."""
    if y.is_cuda:
        # The kernel of torch's batch norms needs only one pass over y.
        return torch.batch_norm_stats(y, 0.0)[1].pow(-2)
    # torch.var_mean takes ten times as long on a CPU.
    return (y.to(mean.dtype) - per_channel(mean, y)).square_().mean([0, *range(2, y.dim())])


class _FromOutput(torch.autograd.Function):
    """Uses the convolution's output, but never normalizes it."""

    @staticmethod
    def forward(ctx, y, gamma, beta, eps):
        averages = _average(y, wide_type(y))
        mean = averages.mean(0)
        var = _variance(y, mean)
        averages -= mean
        top, scale, inv_std = _normalize(averages, var, gamma, beta, eps)
        ctx.save_for_backward(y, mean, averages, scale, inv_std)
        ctx.mark_non_differentiable(mean, var)
        return top, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _mean, _var):
        y, mean, *normalized = ctx.saved_tensors
        with no_autocast(y):
            grad_averages, grad_var, *grad_affine = _normalize_backward(ctx, grad, *normalized)
            grad_y = None
            if ctx.needs_input_grad[0]:
                size = y[0, 0].numel()
                slope = grad_var * (2 / (len(y) * size))
                level = (grad_averages - grad_averages.mean(0)) / size - slope * mean
                grad_y = torch.empty_like(y)
                torch.addcmul(per_channel(level, y), y, per_channel(slope, y), out=grad_y)
        return grad_y, *grad_affine, None


def _products(x: Tensor) -> Tensor:
    """The products of each pair of channels, summed over samples and space: ``(C, C)``."""
    if x.device.type == "cpu":
        # On a CPU a convolution's weight gradient is faster than the same matrix product.
        square = (x.shape[1], x.shape[1]) + (1,) * (x.dim() - 2)
        return _CONV_WEIGHT_GRAD[x.dim()](x, square, x).flatten(1)
    # Elsewhere convolutions may round to TF32, which is too imprecise for variances.
    flat = x.flatten(2)
    return torch.bmm(flat, flat.transpose(1, 2)).sum(0)


class _FromCovariance(torch.autograd.Function):
    """Uses a 1x1 convolution's input x: its output has variance w^T cov(x) w and mean w^T mean(x)."""

    @staticmethod
    def forward(ctx, x, weight, gamma, beta, eps):
        wide = x.to(wide_type(x))
        channels = x.shape[1]
        mean = _average(wide).mean(0)
        # Subtract the mean first, or the results are differences of large numbers.
        offset = wide - per_channel(mean, x)
        averages = _average(offset)
        averages -= averages.mean(0)
        covariance = _products(offset) / (x.numel() // channels)
        matrix = weight.flatten(1).to(wide.dtype)
        projected = matrix @ covariance
        var = (projected * matrix).sum(1).clamp_min(0)
        centred = averages @ matrix.T
        top, scale, inv_std = _normalize(centred, var, gamma, beta, eps)
        ctx.save_for_backward(x, weight, mean, averages, projected, centred, scale, inv_std)
        mean_out = matrix @ mean
        ctx.mark_non_differentiable(mean_out, var)
        return top, mean_out, var

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _mean, _var):
        x, weight, mean, averages, projected, *normalized = ctx.saved_tensors
        with no_autocast(x):
            grad_centred, grad_var, *grad_affine = _normalize_backward(ctx, grad, *normalized)
            grad_x = grad_weight = None
            if ctx.needs_input_grad[0]:
                matrix = weight.flatten(1).to(mean.dtype)
                size = x[0, 0].numel()
                slope = matrix.T @ (matrix * (grad_var * (2 / (len(x) * size)))[:, None])
                level = grad_centred @ matrix
                level = (level - level.mean(0)) / size
                grad_x = convolve(x.to(mean.dtype), per_channel(slope, x), -(slope @ mean))
                grad_x = grad_x.add_(per_channel(level, x)).to(x.dtype)
            if ctx.needs_input_grad[1]:
                grad_weight = grad_centred.T @ averages + 2 * grad_var[:, None] * projected
                grad_weight = grad_weight.view(weight.shape).to(weight.dtype)
        return grad_x, grad_weight, *grad_affine, None
