"""Wide residual networks for small images, and their attention-augmented form.

Zagoruyko, Komodakis, Wide Residual Networks, BMVC 2016 (https://arxiv.org/abs/1605.07146).

The norms follow the convolutions, in the shortcut as well. The published parameters of WRN-16-8
require this: Tree-structured Attention Module for Image Classification, tables 1 and 2.

The attention-augmented net is that of Zhu et al., An Attention Module for Convolutional
Neural Networks, ICANN 2021, table 2 (https://arxiv.org/abs/2108.08205): ``aa`` makes the first
convolution of every block attention-augmented. The paper's text says Wide-ResNet-28-10, but its
published 8.43M parameters match depth 10, width 10 and 3x3 queries, keys and values, whose
biases are the only ones in the blocks. Its published 3.89 GFLOPs are matched within 4% if the
second stage keeps the resolution::

    WideResNet(10, 10, strides=(1, 1, 2), aa=dict(dk=0.2, dv=0.1, heads=8, qkv_kernel_size=3))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from attn_mm.layers.aa_conv import AAConv2d
from attn_mm.models.backbones.staged import BN, KAIMING, ConvNormBlock, StagedBackbone, conv_layer, norm_layer
from attn_mm.registry import MODELS


class WideBlock(ConvNormBlock):
    """Two 3x3 convolutions with norms, added to the input, or to its 1x1 convolution if shapes differ.

    Args:
        in_channels, out_channels: channels of the block's input and output.
        stride: stride of the first convolution and of the shortcut.
        aa: options of :class:`attn_mm.layers.AAConv2d` for the first convolution; None for a
            plain one.
        conv_cfg, norm_cfg: as in mmcv.
        with_cp: see :class:`attn_mm.models.backbones.staged.ConvNormBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        aa: dict | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict = BN,
        with_cp: bool = False,
    ) -> None:
        super().__init__(with_cp)
        if aa is None:
            self.conv1 = conv_layer(
                conv_cfg, in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
            )
        else:
            self.conv1 = AAConv2d(in_channels, out_channels, 3, stride, 1, **{"bias": False, **aa})
        self.add_norm(norm_cfg, out_channels, 1)
        self.conv2 = conv_layer(conv_cfg, out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.add_norm(norm_cfg, out_channels, 2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv_layer(conv_cfg, in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
                norm_layer(norm_cfg, out_channels)[1],
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(N, out_channels, H', W')`` from ``(N, in_channels, H, W)``."""
        return self.run(self._forward, x)

    def _forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(out + identity)


@MODELS.register_module()
class WideResNet(StagedBackbone):
    """WRN-``depth``-``widen_factor`` without its classifier: three stages.

    Args:
        depth: 6n + 4 for n blocks per stage.
        widen_factor: k; the stages have 16k, 32k and 64k channels.
        strides: strides of the three stages.
        aa: options of :class:`attn_mm.layers.AAConv2d` for the first convolution of every block;
            None for plain convolutions. ``shape`` is computed from ``input_size``.
        input_size: height and width of the images; used only for ``aa`` with relative positions.
        in_channels: channels of the image.
        base_channels: channels of the stem.
        out_indices, frozen_stages, norm_eval, init_cfg: see
            :class:`attn_mm.models.backbones.staged.StagedBackbone`.
        conv_cfg: as in mmcv, for the stem and for the blocks' plain convolutions.
        norm_cfg: as in mmcv.
        with_cp: see :class:`attn_mm.models.backbones.staged.ConvNormBlock`.

    Raises:
        ValueError: ``depth`` is not 6n + 4, there are not three ``strides``, or a stage named by
            ``out_indices`` or ``frozen_stages`` doesn't exist.
    """

    def __init__(
        self,
        depth: int = 16,
        widen_factor: int = 8,
        strides: Sequence[int] = (1, 2, 2),
        aa: dict | None = None,
        input_size: tuple[int, int] = (32, 32),
        in_channels: int = 3,
        base_channels: int = 16,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = BN,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, ...), got {depth}")
        if len(strides) != 3:
            raise ValueError(f"strides must have three values, one per stage, got {strides}")
        common: dict[str, Any] = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, with_cp=with_cp)
        self.add_stem(in_channels, base_channels, 1, conv_cfg, norm_cfg)
        before, height, width = base_channels, *input_size
        for stage, stride in enumerate(strides):
            channels = base_channels * widen_factor * 2**stage
            height, width = -(-height // stride), -(-width // stride)
            if aa is not None:
                common["aa"] = dict(aa, shape=(height, width))
            self.add_stage(
                WideBlock(channels if n else before, channels, 1 if n else stride, **common)
                for n in range(blocks)
            )
            before = channels
        self.check_stages()
