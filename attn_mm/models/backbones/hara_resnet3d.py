"""The 3D ResNet of the action recognition papers, on mmaction's ResNet3d.

Hara, Kataoka & Satoh, Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?,
CVPR 2018 (https://arxiv.org/abs/1711.09577), table 1 and the authors' code. TDAF's baselines are of it.
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
    """Build mmaction's ``ResNet3d`` with a ResNet's kernels and strides in all three dimensions.

    3x3 kernels are 3x3x3 and 1x1 ones 1x1x1; the stem is 7x7x7 and strides over space alone. The
    max-pool is 3x3x3, where mmaction's own looks at one frame of each two. A clip ``(N, 3, 16, 112, 112)``
    leaves the last stage as ``(N, C, 1, 4, 4)``. Shortcuts that change the shape are convolutions.

    Args:
        depth: 18, 34, 50, 101 or 152.
        options: others of mmaction's ``ResNet3d``.
    """
    net = MMENGINE_MODELS.build(dict(type="mmaction.ResNet3d", depth=depth, **{**HARA, **options}))
    net.maxpool = nn.MaxPool3d(3, net.maxpool.stride, padding=1)
    return net
