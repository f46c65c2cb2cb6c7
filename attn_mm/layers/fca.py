"""Frequency channel attention (FcaNet-TS): squeeze-and-excitation on DCT components, not only averages.

Qin, Zhang, Wu, Li, FcaNet: Frequency Channel Attention Networks, ICCV 2021
(https://arxiv.org/abs/2012.11879), eqs. 3, 11-14.

The average is the lowest component of the discrete cosine transform (DCT). The layer
splits the channels into 16 parts and squeezes each part by a different component: the
16 best of the two-step selection (section 3.3, the authors' 'top16').
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_mm.layers.ops.channels import one_width
from attn_mm.layers.ops.execution import is_traced
from attn_mm.layers.recording import AttentionKind
from attn_mm.layers.se import SE

# Each part's frequency along the height and along the width, on a 7x7 grid.
_TOP_16 = (
    (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2),
    (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2),
)


def _cosines(size: int, frequencies: tuple[int, ...]) -> Tensor:
    """The orthonormal cosines of the ``frequencies``, ``(len(frequencies), size)``."""
    # On a grid of a multiple of 7 a frequency scales, so that it means the same cosine.
    frequency = torch.tensor(frequencies, dtype=torch.float64)[:, None] * (size // 7)
    position = torch.arange(size, dtype=torch.float64) + 0.5
    power = torch.where(frequency == 0, 1.0, 2.0).double() / size
    return power.sqrt() * torch.cos(math.pi / size * frequency * position)


class FCA(SE):
    """Multiply each channel by a gate in (0, 1) computed from one DCT component of each channel.

    A map of another size is first average-pooled to ``size`` x ``size``. In 3D the map
    is first averaged over time, because the two-step selection has no temporal
    frequencies; the other layers here average over time too.

    Args:
        channels: channels of the input, a multiple of 16; ``in_channels`` is an alias.
        reduction: input channels per hidden channel.
        size: side of the square grid of the components, at least 7. The authors use
            56, 28, 14 and 7 for the four stages of a ResNet.
        dims: 2 for images, 3 for video.

    Raises:
        TypeError: both or neither of ``channels`` and ``in_channels`` are given.
        ValueError: ``channels`` is not a multiple of 16, ``size`` is below 7,
            ``dims`` is not 2 or 3, or ``reduction`` leaves no hidden channel.
    """

    recorded_kind = AttentionKind(
        "FCA gate",
        "Qin et al., FcaNet, ICCV 2021, eqs. 11-14",
        "What each channel is multiplied by, computed from one DCT component of each: near 1 it passes, near "
        "0 it is muted.",
        over="channels",
    )

    def __init__(
        self,
        channels: int | None = None,
        reduction: int = 16,
        size: int = 7,
        dims: Literal[2, 3] = 2,
        *,
        in_channels: int | None = None,
    ) -> None:
        channels = one_width(channels, in_channels)
        parts = len(_TOP_16[0])
        if channels % parts:
            raise ValueError(
                f"channels must be a multiple of {parts}, one part per component, got {channels!r}"
            )
        if size < 7:
            raise ValueError(f"size must be at least 7, the size of the frequencies' grid, got {size!r}")
        super().__init__(channels, reduction, bias=False, dims=dims)
        self.size = size
        # A constant needs no place in the state dict.
        self.register_buffer("basis", self._make_basis(), persistent=False)

    def _make_basis(self) -> Tensor:
        rows, columns = (_cosines(self.size, frequencies) for frequencies in _TOP_16)
        basis = rows[:, None, :, None] * columns[:, None, None, :]
        return basis.to(self.mlp[0].get_parameter("weight"))

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        # Recompute: converted to float64 it would keep float32's rounding, after to_empty() it is garbage.
        self.basis = self._make_basis()
        return self

    def extra_repr(self) -> str:
        return f"size={self.size}"

    def squeeze(self, x: Tensor) -> Tensor:
        """Compute a DCT component of each channel: ``(N, C, 1, 1)``, with another 1 in 3D."""
        if self.dims == 3:
            x = x.mean(2)
        # Pooling to the same size changes nothing, but a graph for any size can't check that.
        if is_traced() or x.shape[-2:] != (self.size, self.size):
            x = F.adaptive_avg_pool2d(x, self.size)
        components = (x.unflatten(1, (len(self.basis), -1)) * self.basis).sum((-2, -1))
        return components.to(x.dtype).reshape(*x.shape[:2], *[1] * self.dims)
