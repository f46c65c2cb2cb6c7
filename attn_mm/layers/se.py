"""Squeeze-and-excitation (SE): channel attention from the average-pooled map.

Hu, Shen, Sun, Squeeze-and-Excitation Networks, CVPR 2018 (https://arxiv.org/abs/1709.01507),
eqs. 2-4.

The published parameter counts differ in the biases of the two layers: the TD and
TAM papers count none (ResNet-50: 28.07M), the AW paper counts them (28.09M).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from attn_mm.layers.closing import ChannelGate
from attn_mm.layers.ops.channels import one_width
from attn_mm.layers.ops.pooled_conv import pooled_conv_class
from attn_mm.layers.recording import AttentionKind


def bottleneck_mlp(channels: int, reduction: int, bias: bool, dims: int) -> nn.Sequential:
    """Make the two 1x1 layers of eq. 3, before the sigmoid: to ``channels // reduction``, ReLU, and back.

    Raises:
        ValueError: ``dims`` is not 2 or 3, or ``reduction`` leaves no hidden channel.
    """
    conv = pooled_conv_class(dims)
    if not 1 <= reduction <= channels:
        raise ValueError(f"reduction must be in 1..{channels} (the number of channels), got {reduction!r}")
    hidden = channels // reduction
    return nn.Sequential(
        conv(channels, hidden, 1, bias=bias), nn.ReLU(inplace=True), conv(hidden, channels, 1, bias=bias)
    )


class SE(ChannelGate):
    """Multiply each channel by a gate in (0, 1) computed from the averages of all channels.

    Args:
        channels: channels of the input; ``in_channels`` is an alias.
        reduction: input channels per hidden channel.
        bias: whether the two layers have biases.
        dims: 2 for images, 3 for video.

    Raises:
        TypeError: both or neither of ``channels`` and ``in_channels`` are given.
        ValueError: ``dims`` is not 2 or 3, or ``reduction`` leaves no hidden channel.
    """

    recorded_kind = AttentionKind(
        "SE gate",
        "Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, eqs. 2-4",
        "What each channel is multiplied by: near 1 it passes, near 0 it is muted.",
        over="channels",
    )

    def __init__(
        self,
        channels: int | None = None,
        reduction: int = 16,
        bias: bool = False,
        dims: Literal[2, 3] = 2,
        *,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.mlp = bottleneck_mlp(one_width(channels, in_channels), reduction, bias, dims)
        self.dims = dims

    def gate_of(self, pooled: Tensor) -> Tensor:
        """See :meth:`attn_mm.layers.closing.ChannelGate.gate_of`."""
        return self.mlp(pooled).sigmoid()
