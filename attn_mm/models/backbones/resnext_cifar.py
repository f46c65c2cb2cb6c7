"""ResNeXt for 32x32 images.

Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017
(https://arxiv.org/abs/1611.05431); section 5.2 for depth 29.
"""

from __future__ import annotations

from typing import ClassVar

from mmpretrain.models.backbones import ResNet_CIFAR, ResNeXt


class ResNeXtCIFAR(ResNeXt, ResNet_CIFAR):
    """mmpretrain's ``ResNeXt`` with the stem of its ``ResNet_CIFAR``: 3x3, stride 1, and no pooling.

    Depth 29 has three stages of three blocks, of 256, 512 and 1024 channels.

    Args:
        depth: 29, 50, 101 or 152.
        resnext: options of mmpretrain's ``ResNeXt``.
    """

    arch_settings: ClassVar[dict] = {**ResNeXt.arch_settings, 29: (ResNeXt.arch_settings[50][0], (3, 3, 3))}

    def __init__(self, depth: int, **resnext) -> None:
        if depth == 29:
            stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
            resnext = {**stages, **resnext}
        super().__init__(depth, **resnext)
