"""AW-convolution: every sample is convolved with its own, attended weights.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021,
eqs. 4-8, figure 1 (https://arxiv.org/abs/2108.08205)::

    A   = Expand(sigmoid(BN(conv1x1(ReLU(BN(conv1x1(Avgpool(I))))))))
    out = conv(I, K + A * K)

The pooled map has the size of the kernel, so that the attention has a value for
each of the kernel's positions. It starts near 1/2, as the paper leaves it: a
pretrained convolution that becomes an AW-convolution starts with 3/2 of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers.aw_forms import FORMS, choose_form, is_traced, output_size
from attn_mm.layers.flows import current_flow
from attn_mm.layers.mfbn import MFBN, MFSyncBN

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_ADAPTIVE_POOL = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def _ratio(name: str, value: int, sizes: Sequence[int]) -> int:
    if not isinstance(value, int) or value < 1 or any(size % value for size in sizes):
        raise ValueError(
            f"{name} must be a whole number that divides {' and '.join(map(str, sizes))}, got {value!r}"
        )
    return value


class AWAttention(nn.Module):
    """The attention of a kernel: F_1 of the paper, eqs. 7 and 8.

    In training, a batch norm that gets a single value per channel (one sample
    pooled to one pixel, a 1x1 kernel at batch size 1) has no batch statistics:
    it then uses its running ones and leaves them as they are. A synchronized norm
    does so only where there is one process; else it sees the others' values.

    Args:
        in_channels: channels of the convolution's input.
        out_channels: C2, the convolution's output channels.
        kernel_size: the kernel's height and width, or time, height and width.
        groups: the convolution's; the kernel's C1 is ``in_channels // groups``.
        reduction: r; the hidden layer has ``out_channels // r`` channels, at least 1.
        reduce_c1, reduce_c2, reduce_hw: how many consecutive input channels, output
            channels, and rows and columns (and frames) of the kernel share an attention
            value. ``reduce_c1=None`` is C1: all the input channels share it.

    Raises:
        ValueError: ``reduction`` is no positive number, or another ratio does not divide what it reduces.
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
    ) -> None:
        super().__init__()
        c1, dims = in_channels // groups, len(kernel_size)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"reduction must be a positive whole number, got {reduction!r}")
        c1_ratio = _ratio("reduce_c1", c1 if reduce_c1 is None else reduce_c1, [c1])
        c2_ratio = _ratio("reduce_c2", reduce_c2, [out_channels])
        hw_ratio = _ratio("reduce_hw", reduce_hw, kernel_size)
        self.pooled = [k // hw_ratio for k in kernel_size]
        self.values = out_channels // c2_ratio, c1 // c1_ratio
        # Where one value serves all of C1 or of the kernel, the product with the weights broadcasts it.
        c1_repeats = c1_ratio if self.values[1] > 1 else 1
        self.repeats = c2_ratio, c1_repeats, *[hw_ratio if max(self.pooled) > 1 else 1] * dims
        hidden, out = max(1, out_channels // reduction), math.prod(self.values)
        options = dict(device=device, dtype=dtype)
        self.conv1 = _CONV[dims](in_channels, hidden, 1, bias=False, **options)
        self.norm1 = _NORM[dims](hidden, **options)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _CONV[dims](hidden, out, 1, bias=False, **options)
        self.norm2 = _NORM[dims](out, **options)
        self.sigmoid = nn.Sigmoid()

    def reset_parameters(self) -> None:
        """torch's initialization of all four layers."""
        for module in (self.conv1, self.norm1, self.conv2, self.norm2):
            module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """The attention for ``x`` ``(N, in_channels, *size)``.

        Returns:
            ``(N, C2, C1, *kernel_size)`` in (0, 1), with 1 for C1 or for the kernel's
            size where all of C1 or of the kernel share the values.
        """
        # Autocast would round the attention: its maps are so small that full precision costs nothing.
        with torch.autocast(x.device.type, enabled=False) if _autocast_type(x) else nullcontext():
            a = _pool(x, self.pooled).to(self.conv1.weight.dtype)
            a = self.relu(_normalize(self.norm1, self.conv1(a)))
            a = self.sigmoid(_normalize(self.norm2, self.conv2(a)))
        a = a.unflatten(1, self.values)
        for dim, times in enumerate(self.repeats, start=1):
            if times > 1:
                a = _repeat(a, dim, times)
        return a


def _repeat(a: Tensor, dim: int, times: int) -> Tensor:
    """Eq. 8: each value ``times`` times in a row along ``dim``."""
    size = [*a.shape[: dim + 1], times, *a.shape[dim + 1 :]]
    return a.unsqueeze(dim + 1).expand(size).flatten(dim, dim + 1)


def _pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Adaptive average pooling of ``x`` to ``size``."""
    dims = range(2, x.dim())
    if max(size) == 1:
        return x.mean(tuple(dims), keepdim=True)
    if not is_traced():
        return _ADAPTIVE_POOL[len(size)](x, size)
    # Exporters refuse adaptive pooling to sizes that don't divide, and slices at the cells' bounds.
    for dim, cells in zip(dims, size):
        n = x.shape[dim]
        cell, at = torch.arange(cells, device=x.device)[:, None], torch.arange(n, device=x.device)
        inside = ((cell * n) // cells <= at) & (at < ((cell + 1) * n + cells - 1) // cells)
        sums = x.transpose(dim, x.dim() - 1) @ inside.T.to(x.dtype)
        x = (sums / inside.sum(1)).transpose(dim, x.dim() - 1)
    return x


def _normalize(norm: nn.Module, x: Tensor) -> Tensor:
    single = isinstance(norm, _BatchNorm) and norm.training and x.numel() <= x.shape[1]
    if not single or norm.running_mean is None or _sees_other_processes(norm):
        return norm(x)
    mean, var = norm.running_mean, norm.running_var
    if isinstance(norm, MFBN):
        flow = norm.num_flows - 1 if current_flow() is None else current_flow()
        mean, var = mean[flow], var[flow]
    return F.batch_norm(x, mean, var, norm.weight, norm.bias, training=False, eps=norm.eps)


def _sees_other_processes(norm: nn.Module) -> bool:
    synchronized = (
        isinstance(norm, (nn.SyncBatchNorm, MFSyncBN)) and dist.is_available() and dist.is_initialized()
    )
    return synchronized and dist.get_world_size(norm.process_group) > 1


def _autocast_type(x: Tensor) -> torch.dtype | None:
    """The type that autocast gives convolutions of ``x``; None where it leaves ``x`` alone."""
    device = x.device.type
    if x.dtype == torch.float64 or x.is_meta:
        return None
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


class _AWConv:
    """What AWConv2d and AWConv3d add to torch's convolutions."""

    _plain: type[nn.Module]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device=None,
        dtype=None,
        *,
        reduction: int = 16,
        reduce_c1: int | None = None,
        reduce_c2: int = 1,
        reduce_hw: int = 1,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.attention = AWAttention(
            in_channels,
            out_channels,
            self.kernel_size,
            groups,
            reduction,
            reduce_c1,
            reduce_c2,
            reduce_hw,
            device,
            dtype,
        )

    @classmethod
    def from_conv(cls, conv: nn.Module, **ratios):
        """An AW-convolution in place of ``conv``, with its very ``weight`` and ``bias``.

        Device, type, training mode and whether the weights are trained stay as they are.

        Args:
            conv: the convolution to replace.
            ratios: ``reduction``, ``reduce_c1``, ``reduce_c2``, ``reduce_hw``.

        Raises:
            TypeError: ``conv`` computes something else than torch's convolution of
                that number of dimensions (another forward, hooks, or a parametrized weight).
        """
        plain, given = cls._plain, type(conv)
        if not isinstance(conv, plain) or any(
            getattr(given, name) is not getattr(plain, name) for name in ("forward", "_conv_forward")
        ):
            raise TypeError(
                f"{cls.__name__} can replace a torch.nn.{plain.__name__} or a subclass that keeps its "
                f"forward, got {given.__module__}.{given.__qualname__}"
            )
        hooks = (conv._forward_pre_hooks, conv._forward_hooks, conv._backward_pre_hooks, conv._backward_hooks)
        if "weight" not in conv._parameters or "forward" in vars(conv) or any(hooks):
            raise TypeError(
                f"{cls.__name__} can't replace a convolution with hooks, a parametrized weight or a replaced "
                "forward: they would be lost"
            )
        aw = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            "meta",
            conv.weight.dtype,
            **ratios,
        )
        aw.weight, aw.bias = conv.weight, conv.bias
        aw.attention.to_empty(device=conv.weight.device).reset_parameters()
        return aw.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C1, *size)`` or ``(C1, *size)`` to the plain convolution's output shape.

        On the CPU, 3x3 and larger kernels can be differentiated once, not twice, unless inside
        :func:`~attn_mm.layers.shortcuts.as_written`.
        """
        dims = len(self.kernel_size)
        if x.dim() == dims + 1:
            return _AWConv.forward(self, x.unsqueeze(0)).squeeze(0)
        if x.dim() != dims + 2:
            raise ValueError(
                f"{type(self).__name__} expects {dims + 1} or {dims + 2} dimensions, got {x.dim()}"
            )
        s = 1 + self.attention(x)
        x, padding = self._pad(x.to(_autocast_type(x) or x.dtype))
        size = output_size(x, self.weight, self.stride, padding, self.dilation)
        form = choose_form(x, self.weight, s, self.stride, math.prod(size), self.groups)
        return FORMS[form](x, self.weight, s, self.bias, self.stride, padding, self.dilation, self.groups)

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """``x`` and the zero padding that is left to the convolution."""
        both_ends = self._reversed_padding_repeated_twice
        before, after = tuple(both_ends[-2::-2]), tuple(both_ends[::-2])
        if self.padding_mode != "zeros":
            return F.pad(x, both_ends, self.padding_mode), (0,) * len(before)
        # Of 'same' padding for an even kernel, one end has more.
        return (x, before) if before == after else (F.pad(x, both_ends), (0,) * len(before))


class AWConv2d(_AWConv, nn.Conv2d):
    """``torch.nn.Conv2d`` whose weights are attended anew for every sample.

    A plain convolution's state loads into it with ``strict=False``; only keys that begin
    with ``attention.`` are missing then.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype: as in ``torch.nn.Conv2d``.
        reduction, reduce_c1, reduce_c2, reduce_hw: as in :class:`AWAttention`.

    Raises:
        ValueError: ``reduction`` is no positive number, or another ratio does not divide what it reduces.
    """

    _plain = nn.Conv2d


class AWConv3d(_AWConv, nn.Conv3d):
    """``torch.nn.Conv3d`` whose weights are attended anew for every sample; time is treated as space is.

    Arguments and errors are those of :class:`AWConv2d`, for three dimensions.
    """

    _plain = nn.Conv3d
