"""Efficient channel attention: a short convolution over neighbouring channels.

Wang, Wu, Zhu, Li, Zuo, Hu, ECA-Net: Efficient Channel Attention for Deep Convolutional
Neural Networks, CVPR 2020 (https://arxiv.org/abs/1910.03151), eqs. 9 and 12.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attn_mm.layers.closing import ChannelGate
from attn_mm.layers.ops.channels import one_width
from attn_mm.layers.ops.dims import check_dims
from attn_mm.layers.ops.execution import is_shown, is_traced, shortcuts_enabled
from attn_mm.layers.recording import AttentionKind


def eca_kernel_size(channels: int, gamma: float = 2, beta: float = 1) -> int:
    """The odd number nearest to ``|log2(channels) / gamma + beta / gamma|``, the larger if tied (eq. 12)."""
    size = int(abs((math.log2(channels) + beta) / gamma))
    return size if size % 2 else size + 1


class ECA(ChannelGate):
    """Multiply each channel by a gate in (0, 1) computed from the averages of its neighbours.

    Args:
        channels: channels of the input; ``in_channels`` is an alias.
        gamma, beta: set the kernel size, see :func:`eca_kernel_size` (paper: 2 and 1).
        dims: 2 for images, 3 for video.

    Raises:
        TypeError: both or neither of ``channels`` and ``in_channels`` are given.
        ValueError: ``dims`` is not 2 or 3.
    """

    recorded_kind = AttentionKind(
        "ECA gate",
        "Wang et al., ECA-Net, CVPR 2020, eq. 9",
        "What each channel is multiplied by, computed from its neighbours: near 1 it passes, near 0 it is "
        "muted.",
        over="channels",
    )

    def __init__(
        self,
        channels: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        dims: Literal[2, 3] = 2,
        *,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        check_dims(dims)
        size = eca_kernel_size(one_width(channels, in_channels), gamma, beta)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.dims = dims

    def gate_of(self, pooled: Tensor) -> Tensor:
        """See :meth:`attn_mm.layers.closing.ChannelGate.gate_of`."""
        row = pooled.flatten(-self.dims - 1)
        if is_traced() or row.dim() != 2 or not (shortcuts_enabled() and self._has_own_conv()):
            return self.conv(row.unsqueeze(-2)).sigmoid().reshape(pooled.shape)
        # Convolutions with kernels this short take twice as long.
        (size,) = self.conv.kernel_size
        neighbours = F.pad(row, (size // 2, size // 2)).unfold(1, size, 1)
        return F.linear(neighbours, self.conv.weight.flatten(1)).sigmoid().reshape(pooled.shape)

    def _has_own_conv(self) -> bool:
        """Whether nobody has replaced the convolution or sees its calls."""
        return type(self.conv) is nn.Conv1d and not is_shown(self.conv)
