"""VGG of mmpose and mmpretrain: a sequence of convolutions without blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Family, Split, Stage


def _stages(backbone: Any) -> list[Stage]:
    return [*_groups(backbone), partial(_classifier, backbone)]


def _groups(backbone: Any) -> list[nn.Sequential]:
    ends = [end for _, end in backbone.range_sub_modules[2:]]
    return [backbone.features[start:end] for start, end in zip([0, *ends], ends)]


def _classifier(backbone: Any, x: Tensor) -> Tensor:
    return backbone.classifier(x.flatten(1)) if backbone.num_classes > 0 else x


def _ends(backbone: Any) -> list[nn.Module]:
    return [[m for m in group.modules() if isinstance(m, nn.Conv2d)][-1] for group in _groups(backbone)]


def _indices(backbone: Any) -> range:
    return range(2, 6)


_VGG = Split(_stages, _ends, _indices)
"""The first three groups of convolutions, the fourth, the fifth, and the classifier or nothing.

The published parameter counts are those of attention behind the third, fourth and fifth pool.
"""

FAMILIES: dict[str, Family] = {}

SPLITS: dict[str, Split] = {
    "mmpose.models.backbones.vgg.VGG": _VGG,
    "mmpretrain.models.backbones.vgg.VGG": _VGG,
}
