"""A neck that convolves the last map by 1x1 before it averages it."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from attn_mm.registry import MODELS


@MODELS.register_module()
class PointwisePooling(BaseModule):
    """A neck that averages what a 1x1 convolution makes of the last map.

    The published parameters of TDAF's ResNets and ResNeXts include this layer; the text does not mention it.

    Args:
        channels: channels of the last map, and of the result.
        init_cfg: of mmengine's ``BaseModule``.
    """

    def __init__(self, channels: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Maps ``(N, C_i, H_i, W_i)`` -> a tuple of one, ``(N, channels)``, for mmpretrain's heads."""
        return (self.conv(maps[-1]).mean((-2, -1)),)
