"""Convolutional block attention (CBAM): a gate for each channel, then one for each position.

Woo, Park, Lee, Kweon, CBAM: Convolutional Block Attention Module, ECCV 2018
(https://arxiv.org/abs/1807.06521), eqs. 1-3.

Eq. 3 has no normalization. The authors' code has a batch norm between the 7x7
convolution and the sigmoid; so does this layer. The published parameter counts,
given to 0.01M, can't show which is right (a ResNet-50 has 32 of those parameters).
They do differ in the biases of the shared layers: the TD paper counts none
(ResNet-50: 28.07M), the AW and TAM papers count them (28.09M; on CIFAR-100 26.24M).

The AW paper, which ablates CBAM in tables 1-2, is
Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from attn_mm.layers.closing import ClosesBranch, add_product, adds_products
from attn_mm.layers.forms import gates
from attn_mm.layers.ops.channels import one_width
from attn_mm.layers.ops.dims import conv_class, norm_class
from attn_mm.layers.ops.execution import is_traced, is_transformed, may_overwrite
from attn_mm.layers.recording import Attention, AttentionKind
from attn_mm.layers.se import bottleneck_mlp

_PAPER = "Woo et al., CBAM, ECCV 2018"
CHANNELS = AttentionKind(
    "CBAM: what",
    f"{_PAPER}, eq. 2",
    "Channel attention: what each channel is multiplied by; near 1 it passes, near 0 it is muted.",
    over="channels",
)
POSITIONS = AttentionKind(
    "CBAM: where",
    f"{_PAPER}, eq. 3",
    "Spatial attention: what every channel is multiplied by at this position, after the channel attention.",
)


class CBAM(ClosesBranch):
    """Apply channel attention, then spatial attention.

    The AW paper calls ``CBAM(spatial=False)``, without the spatial map, 'MaxPool', and
    ``CBAM(max_pool=False)``, without max-pooled features, 'Spatial'.

    Args:
        channels: channels of the input; ``in_channels`` is an alias.
        reduction: input channels per hidden channel.
        bias: whether the two shared layers of the channel attention have biases.
        spatial: whether to apply the spatial attention.
        max_pool: whether the channel attention uses each channel's maximum as well as
            its average. The spatial attention always uses the maximum over the channels:
            the AW paper doesn't specify it, its counts can't show it, and the CBAM
            authors' code has these two switches.
        kernel_size: width of the spatial attention's convolution, odd.
        dims: 2 for images, 3 for video (time is treated like space).

    Raises:
        TypeError: both or neither of ``channels`` and ``in_channels`` are given.
        ValueError: ``dims`` is not 2 or 3, ``reduction`` leaves no hidden channel,
            ``kernel_size`` is even, or ``spatial`` and ``max_pool`` are both False.
    """

    def __init__(
        self,
        channels: int | None = None,
        reduction: int = 16,
        bias: bool = False,
        spatial: bool = True,
        max_pool: bool = True,
        kernel_size: int = 7,
        dims: Literal[2, 3] = 2,
        *,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        if not (spatial or max_pool):
            raise ValueError("CBAM without spatial and max_pool is SE: set one of them to True, or use SE")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size!r}")
        self.mlp = bottleneck_mlp(one_width(channels, in_channels), reduction, bias, dims)
        self.spatial: nn.Sequential | None = None
        if spatial:
            self.spatial = nn.Sequential(
                conv_class(dims)(2, 1, kernel_size, padding=kernel_size // 2, bias=False),
                # Momentum as in the authors' code.
                norm_class(dims)(1, momentum=0.01),
            )
        self.max_pool = max_pool
        self.dims = dims

    def extra_repr(self) -> str:
        return f"max_pool={self.max_pool}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply both gates to ``(N, C, *size)``; the shape stays.

        Equal maxima share the gradient.
        """
        if self._gates_are_its_own() and gates.fits(x, self.dims):
            return self._in_few_passes(x)
        x = x * self.channel_gate(x)
        return x if self.spatial is None else x * self.spatial_gate(x)

    def can_add(self) -> bool:
        """See :meth:`attn_mm.layers.closing.ClosesBranch.can_add`."""
        return adds_products(self, CBAM)

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """See :meth:`attn_mm.layers.closing.ClosesBranch.add_to`."""
        if self._gates_are_its_own() and gates.fits(x, self.dims, shortcut):
            return self._in_few_passes(x, shortcut)
        gate = self.channel_gate(x)
        if self.spatial is None:
            return add_product(shortcut, x, gate)
        x = x.mul_(gate) if may_overwrite() else x * gate
        return add_product(shortcut, x, self.spatial_gate(x))

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        gate = self.channel_gate(x)
        found = [Attention(CHANNELS, gate)]
        if self.spatial is not None:
            found.append(Attention(POSITIONS, self.spatial_gate(x * gate)))
        return run(x), found

    def opened(self, run, x: Tensor) -> Tensor:
        """See :mod:`attn_mm.layers.recording`."""
        return x

    def channel_gate(self, x: Tensor) -> Tensor:
        """Compute the channel gate from the input (eq. 2): ``(N, C, 1, 1)``, with another 1 in 3D."""
        positions = tuple(range(-self.dims, 0))
        pooled = x.mean(positions, keepdim=True)
        if self.max_pool:
            pooled = torch.cat([pooled, x.amax(positions, keepdim=True)], dim=-1)
        return self._gate_of(pooled)

    def _gate_of(self, pooled: Tensor) -> Tensor:
        """The gate from the averages ``(N, C, 1, 1)``, or from averages and maxima ``(N, C, 1, 2)``."""
        return self.mlp(pooled).sum(-1, keepdim=True).sigmoid()

    def spatial_gate(self, x: Tensor) -> Tensor:
        """Compute the spatial gate from the channel-gated input (eq. 3): ``(N, 1, *size)``."""
        return self._spatial_gate_of(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1))

    def _spatial_gate_of(self, maps: Tensor) -> Tensor:
        """The gate from the largest channel and the average."""
        assert self.spatial is not None
        if not (is_traced() or is_transformed()) and maps.dim() == 4 and maps.device.type == "cpu":
            # oneDNN's backward pass takes a quarter of the time in this layout.
            maps = maps.contiguous(memory_format=torch.channels_last)
        return self.spatial(maps).sigmoid()

    def _gates_are_its_own(self) -> bool:
        """Whether no subclass computes a gate in another way."""
        cls = type(self)
        return cls.channel_gate is CBAM.channel_gate and cls.spatial_gate is CBAM.spatial_gate

    def _in_few_passes(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        options: Any = dict(gate=self._gate_of, with_max=self.max_pool, shortcut=shortcut)
        if self.spatial is None:
            return gates.times_channel_gate(x, **options)
        return gates.times_both_gates(x, spatial_gate=self._spatial_gate_of, **options)
