"""MobileNet v1, which none of the frameworks provides.

Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications, 2017, section 3.2, table 1 (https://arxiv.org/abs/1704.04861).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from attn_mm.models.backbones.staged import BN, KAIMING, ConvNormBlock, StagedBackbone, conv_layer
from attn_mm.registry import MODELS

# Channels and number of blocks at each resolution: 1/2, 1/4, 1/8, 1/16 and 1/32 of the image.
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


class DepthwiseSeparable(ConvNormBlock):
    """A 3x3 ``depthwise`` and a 1x1 ``pointwise`` convolution, each with norm and ReLU.

    Args:
        in_channels, out_channels: channels of the block's input and output.
        stride: stride of the depthwise convolution.
        conv_cfg, norm_cfg: as in mmcv.
        with_cp: see :class:`attn_mm.models.backbones.staged.ConvNormBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = BN,
        with_cp: bool = False,
    ) -> None:
        super().__init__(with_cp)
        self.depthwise = conv_layer(
            conv_cfg,
            in_channels,
            in_channels,
            kernel_size=3,
            stride=stride,
            padding=1,
            groups=in_channels,
            bias=False,
        )
        self.add_norm(norm_cfg, in_channels, 1)
        self.pointwise = conv_layer(conv_cfg, in_channels, out_channels, kernel_size=1, bias=False)
        self.add_norm(norm_cfg, out_channels, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(N, out_channels, H', W')`` from ``(N, in_channels, H, W)``."""
        return self.run(self._forward, x)

    def _forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.depthwise(x)))
        return self.relu(self.norm2(self.pointwise(x)))


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNet without its classifier: 13 blocks in five stages, at strides 2, 4, 8, 16 and 32.

    Args:
        widen_factor: the width multiplier of section 3.3.
        in_channels: channels of the image.
        out_indices, frozen_stages, norm_eval, init_cfg: see
            :class:`attn_mm.models.backbones.staged.StagedBackbone`.
        conv_cfg, norm_cfg: as in mmcv.
        with_cp: see :class:`attn_mm.models.backbones.staged.ConvNormBlock`.

    Raises:
        ValueError: a stage named by ``out_indices`` or ``frozen_stages`` doesn't exist.
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        in_channels: int = 3,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = BN,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        before = int(32 * widen_factor)
        self.add_stem(in_channels, before, 2, conv_cfg, norm_cfg)
        for stage, (channels, blocks) in enumerate(_STAGES):
            channels = int(channels * widen_factor)
            self.add_stage(
                DepthwiseSeparable(
                    channels if n else before,
                    channels,
                    1 if n or stage == 0 else 2,
                    conv_cfg,
                    norm_cfg,
                    with_cp,
                )
                for n in range(blocks)
            )
            before = channels
        self.check_stages()
