"""The 3D ResNet of the action recognition papers, built on mmaction's ResNet3d.

Hara, Kataoka & Satoh, Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?,
CVPR 2018 (https://arxiv.org/abs/1711.09577), table 1 and the authors' code. TDAF uses it as its baseline.
"""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.registry import MODELS

HARA = dict(
    pretrained2d=False,
    conv1_kernel=(7, 7, 7),
    pool1_stride_t=2,
    with_pool2=False,
    temporal_strides=(1, 2, 2, 2),
    inflate_style="3x3x3",
    zero_init_residual=False,
)


@MODELS.register_module(name="HaraResNet3d")
def hara_resnet3d(depth: int = 50, **options) -> nn.Module:
    """Build mmaction's ``ResNet3d`` with a 2D ResNet's kernels and strides in all three dimensions.

    3x3 kernels become 3x3x3 and 1x1 kernels 1x1x1. The stem is 7x7x7 and strides over space only. The
    max-pool is 3x3x3; mmaction's own sees only one frame of every two. For a clip ``(N, 3, 16, 112, 112)``
    the last stage outputs ``(N, C, 1, 4, 4)``. Shortcuts that change the shape are convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        options: other options of mmaction's ``ResNet3d``.

    Returns:
        The backbone.
    """
    net = MMENGINE_MODELS.build(dict(type="mmaction.ResNet3d", depth=depth, **{**HARA, **options}))
    net.maxpool = nn.MaxPool3d(3, net.maxpool.stride, padding=1)
    return net
