"""Attention over the weights of a convolution, computed for each sample.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eqs. 7 and 8, figure 1::

    A = Expand(sigmoid(BN(conv1x1(ReLU(BN(conv1x1(Avgpool(I))))))))

The input is pooled to the size of the kernel, so that the attention has one value
per kernel position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers.mfbn import MFBN, MFSyncBN
from attn_mm.layers.ops.dims import norm_class
from attn_mm.layers.ops.execution import is_traced
from attn_mm.layers.ops.pooled_conv import pooled_conv_class
from attn_mm.layers.ops.precision import no_autocast
from attn_mm.layers.recording import Attention, AttentionKind

ATTENTION = AttentionKind(
    "AW attention A",
    "Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021, eqs. 7-8",
    "The share of the convolution's weights that this image adds to them.",
    over="weights",
)

_ADAPTIVE_POOL: dict[int, Callable[[Tensor, Any], Tensor]] = {
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


def _ratio(name: str, value: int, sizes: Sequence[int]) -> int:
    if not isinstance(value, int) or value < 1 or any(size % value for size in sizes):
        raise ValueError(
            f"{name} must be a whole number that divides {' and '.join(map(str, sizes))}, got {value!r}"
        )
    return value


class AWAttention(nn.Module):
    """Compute the attention on a convolution's weights from its input (F_1 in the paper, eqs. 7 and 8).

    In training, a batch norm that gets a single value per channel (one sample
    pooled to one pixel: a 1x1 kernel at batch size 1) has no batch statistics.
    It then uses its running statistics and doesn't update them. A synchronized norm
    does so only with a single process; otherwise it sees the other processes' values.

    Args:
        in_channels: input channels of the convolution.
        out_channels: C2, output channels of the convolution.
        kernel_size: the kernel's height and width, or time, height and width.
        groups: groups of the convolution; the kernel's C1 is ``in_channels // groups``.
        reduction: r; the hidden layer has ``out_channels // r`` channels, at least 1.
        reduce_c1, reduce_c2, reduce_hw: how many consecutive input channels, output
            channels, and rows and columns (and frames) of the kernel share an attention
            value. ``reduce_c1=None`` means C1: all input channels share it.
        identity: whether the convolution adds A * K to its weights K (eq. 5), or replaces them by it.

    Raises:
        ValueError: ``reduction`` is not a positive integer, another ratio does not divide its size, or
            ``identity`` is not True or False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        groups: int = 1,
        reduction: int = 16,
        reduce_c1: int | None = None,
        reduce_c2: int = 1,
        reduce_hw: int = 1,
        device=None,
        dtype=None,
        identity: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(identity, bool):
            raise ValueError(f"identity must be True or False, got {identity!r}")
        self.identity = identity
        c1, dims = in_channels // groups, len(kernel_size)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"reduction must be a positive whole number, got {reduction!r}")
        c1_ratio = _ratio("reduce_c1", c1 if reduce_c1 is None else reduce_c1, [c1])
        c2_ratio = _ratio("reduce_c2", reduce_c2, [out_channels])
        hw_ratio = _ratio("reduce_hw", reduce_hw, kernel_size)
        self.pooled = [k // hw_ratio for k in kernel_size]
        self.values = out_channels // c2_ratio, c1 // c1_ratio
        # A value shared by all of C1 or by the whole kernel is not repeated: multiplying broadcasts it.
        c1_repeats = c1_ratio if self.values[1] > 1 else 1
        self.repeats = c2_ratio, c1_repeats, *[hw_ratio if max(self.pooled) > 1 else 1] * dims
        hidden, out = max(1, out_channels // reduction), math.prod(self.values)
        options = dict(device=device, dtype=dtype)
        self.conv1 = pooled_conv_class(dims)(in_channels, hidden, 1, bias=False, **options)
        self.norm1 = norm_class(dims)(hidden, **options)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = pooled_conv_class(dims)(hidden, out, 1, bias=False, **options)
        self.norm2 = norm_class(dims)(out, **options)
        self.sigmoid = nn.Sigmoid()

    def reset_parameters(self) -> None:
        """Initialise all four layers as torch does."""
        for module in (self.conv1, self.norm1, self.conv2, self.norm2):
            module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the attention for ``x`` ``(N, in_channels, *size)``.

        Returns:
            ``(N, C2, C1, *kernel_size)`` in (0, 1); C1 or the kernel's size is 1 where
            one value is shared along it.
        """
        # Autocast would round the attention; its maps are small, so full precision costs nothing.
        with no_autocast(x):
            a = _pool(x, self.pooled).to(self.conv1.weight.dtype)
            a = self.relu(_normalize(self.norm1, self.conv1(a)))
            a = self.sigmoid(_normalize(self.norm2, self.conv2(a)))
        a = a.unflatten(1, self.values)
        for dim, times in enumerate(self.repeats, 1):
            if times > 1:
                a = _repeat(a, dim, times)
        return a

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        values = run(x)
        return values, [Attention(ATTENTION, values)]

    def opened(self, run, x: Tensor) -> Tensor:
        """See :mod:`attn_mm.layers.recording`; returns the A with which the convolution has its weights K."""
        return torch.full_like(run(x), 0.0 if self.identity else 1.0)


def _repeat(a: Tensor, dim: int, times: int) -> Tensor:
    """Repeat each value ``times`` times in a row along ``dim`` (eq. 8)."""
    size = [*a.shape[: dim + 1], times, *a.shape[dim + 1 :]]
    return a.unsqueeze(dim + 1).expand(size).flatten(dim, dim + 1)


def _pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling of ``x`` to ``size``."""
    dims = range(2, x.dim())
    if max(size) == 1:
        return x.mean(tuple(dims), keepdim=True)
    if not is_traced():
        return _ADAPTIVE_POOL[len(size)](x, size)
    # Exporters don't support adaptive pooling to sizes that don't divide, nor slices at the cells' bounds.
    for dim, cells in zip(dims, size):
        n = x.shape[dim]
        cell, at = torch.arange(cells, device=x.device)[:, None], torch.arange(n, device=x.device)
        inside = ((cell * n) // cells <= at) & (at < ((cell + 1) * n + cells - 1) // cells)
        sums = x.transpose(dim, x.dim() - 1) @ inside.T.to(x.dtype)
        x = (sums / inside.sum(1)).transpose(dim, x.dim() - 1)
    return x


def _normalize(norm: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(norm, _BatchNorm) or not norm.training or x.numel() > x.shape[1]:
        return norm(x)
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or _sees_other_processes(norm):
        return norm(x)
    affine: tuple[Tensor | None, Tensor | None] = norm.weight, norm.bias
    if isinstance(norm, MFBN):
        mean, var = mean[norm.flow_index()], var[norm.flow_index()]
        affine = norm.affine_of_flow()
    return F.batch_norm(x, mean, var, *affine, training=False, eps=norm.eps)


def _sees_other_processes(norm: nn.Module) -> bool:
    if not isinstance(norm, (nn.SyncBatchNorm, MFSyncBN)):
        return False
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(norm.process_group) > 1
