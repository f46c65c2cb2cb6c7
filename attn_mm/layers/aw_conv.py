"""AW-convolution: convolves each sample with its own attended weights.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eqs. 4-6, figure 1::

    out = conv(I, K + A * K)

with the attention A of :mod:`attn_mm.layers.aw_attention`. A starts near 1/2, since the
paper doesn't change it: a pretrained convolution turned into an AW-convolution starts
with 3/2 of its weights. ``identity=False`` leaves out the first term: out = conv(I, A * K),
which section C of the paper's supplement compares.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from attn_mm.layers.aw_attention import AWAttention
from attn_mm.layers.forms.aw import FORMS, choose_form, output_size
from attn_mm.layers.ops.precision import result_type
from attn_mm.layers.recording import Attention, AttentionKind

FACTORS = AttentionKind(
    "AW factors 1 + A",
    "Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021, eqs. 5-8",
    "What this image multiplies the convolution's weights by; the wider the spread, the more selective.",
    over="weights",
    bounds=(1.0, 2.0),
)
FACTORS_ALONE = AttentionKind(
    "AW factors A",
    "Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021, section C, eqs. 7-8",
    "What this image multiplies the convolution's weights by; the wider the spread, the more selective.",
    over="weights",
)


class _AWConv(_ConvNd):
    """Base of AWConv2d and AWConv3d: what they add to torch's convolutions."""

    recorded_parts = ("attention",)
    _plain: type[nn.Conv2d] | type[nn.Conv3d]

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
        identity: bool = True,
    ) -> None:
        convolution: Any = super()  # Conv2d or Conv3d
        convolution.__init__(
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
            identity,
        )

    @classmethod
    def from_conv(cls, conv: nn.Module, **ratios):
        """Make an AW-convolution that reuses the ``weight`` and ``bias`` objects of ``conv``.

        Device, type, training mode and ``requires_grad`` are kept.

        Args:
            conv: the convolution to replace.
            ratios: ``reduction``, ``reduce_c1``, ``reduce_c2``, ``reduce_hw``, ``identity``.

        Returns:
            The AW-convolution.

        Raises:
            TypeError: ``conv`` is not a plain torch convolution of this class's number of
                dimensions: it has another forward, hooks, or a parametrized weight.
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
        """Convolve ``(N, C1, *size)`` or ``(C1, *size)``; the output has the plain convolution's shape.

        On the CPU, kernels of more than one position can be differentiated only once, except inside
        :func:`~attn_mm.layers.ops.execution.as_written`.
        """
        dims = len(self.kernel_size)
        if x.dim() == dims + 1:
            return _AWConv.forward(self, x.unsqueeze(0)).squeeze(0)
        if x.dim() != dims + 2:
            raise ValueError(
                f"{type(self).__name__} expects {dims + 1} or {dims + 2} dimensions, got {x.dim()}"
            )
        s = self._factors(x)
        x, padding = self._pad(x.to(result_type(x)))
        size = output_size(x, self.weight, self.stride, padding, self.dilation)
        form = choose_form(x, self.weight, s, self.stride, math.prod(size), self.groups)
        return FORMS[form](x, self.weight, s, self.bias, self.stride, padding, self.dilation, self.groups)

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        batch = x if x.dim() == len(self.kernel_size) + 2 else x.unsqueeze(0)
        kind = FACTORS if self.attention.identity else FACTORS_ALONE
        return run(x), [Attention(kind, self._factors(batch))]

    def _factors(self, x: Tensor) -> Tensor:
        """What multiplies the weights for each sample of a batch."""
        a: Tensor = self.attention(x)
        return 1 + a if self.attention.identity else a

    @classmethod
    def without_attention(cls, config: dict) -> dict:
        """See :mod:`attn_mm.describe.without_attention`; returns the plain convolution for ``conv_cfg``."""
        return {"type": cls._plain.__name__}

    def _pad(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Pad ``x`` if the convolution can't; returns it and the zero padding left to the convolution."""
        both_ends = self._reversed_padding_repeated_twice
        before, after = tuple(both_ends[-2::-2]), tuple(both_ends[::-2])
        if self.padding_mode != "zeros":
            return F.pad(x, both_ends, self.padding_mode), (0,) * len(before)
        # 'same' padding of an even kernel is asymmetric.
        return (x, before) if before == after else (F.pad(x, both_ends), (0,) * len(before))


class AWConv2d(_AWConv, nn.Conv2d):
    """``torch.nn.Conv2d`` with attention on its weights, computed for each sample.

    A plain convolution's state loads with ``strict=False``; only keys that start with
    ``attention.`` are missing.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: as in ``torch.nn.Conv2d``.
        dilation, groups, bias, padding_mode, device, dtype: as in ``torch.nn.Conv2d``.
        reduction, reduce_c1, reduce_c2, reduce_hw: as in :class:`~attn_mm.layers.aw_attention.AWAttention`.
        identity: whether the weights are K + A * K, as in eq. 5, or A * K alone.

    Raises:
        ValueError: ``reduction`` is not a positive integer, another ratio does not divide its size, or
            ``identity`` is not True or False.
    """

    _plain = nn.Conv2d


class AWConv3d(_AWConv, nn.Conv3d):
    """``torch.nn.Conv3d`` with attention on its weights for each sample; time is treated like space.

    Arguments and errors are those of :class:`AWConv2d`, in three dimensions.
    """

    _plain = nn.Conv3d
