"""Networks without blocks, a sequence of convolutions and pools: VGG, SSD's VGG, AlexNet, LeNet and C3D."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Split, Stage, last_layer, layer_chain, listed_layers
from attn_mm.graft.grafted import find_flows


def _stages(backbone: Any) -> list[Stage]:
    return [*_groups(backbone), partial(_classifier, backbone)]


def _groups(backbone: Any) -> list[nn.Sequential]:
    pools = [end for _, end in backbone.range_sub_modules]
    ends = [pools[index] for index in _indices(backbone)[:-1]]
    return [backbone.features[start:end] for start, end in zip([0, *ends], ends)]


def _classifier(backbone: Any, x: Tensor) -> Tensor:
    return backbone.classifier(x.flatten(1)) if backbone.num_classes > 0 else x


def _ends(backbone: Any) -> list[nn.Module]:
    return [[m for m in group.modules() if isinstance(m, nn.Conv2d)][-1] for group in _groups(backbone)]


def _indices(backbone: Any) -> Sequence[int]:
    flows = find_flows(backbone)
    return flows.ends if flows is not None and flows.ends else range(2, 6)


_VGG = Split(_stages, _indices, _ends, possible_ends=range(6))
"""The first three groups of convolutions, the fourth, the fifth, and the classifier or nothing.

The published parameter counts are those of attention behind the third, fourth and fifth pool. A stage may end
behind each of the five pools.
"""


def _out_feature_indices(backbone: Any, count: int) -> Sequence[int]:
    return backbone.out_feature_indices


def _alex_net(backbone: Any, index: int, x: Tensor) -> Tensor:
    return backbone.classifier(x.flatten(1)) if backbone.num_classes > 0 else x


def _le_net(backbone: Any, index: int, x: Tensor) -> Tensor:
    return backbone.classifier(x.squeeze()) if backbone.num_classes > 0 else x


_C3D = "conv1a pool1 conv2a pool2 conv3a conv3b pool3 conv4a conv4b pool4 conv5a conv5b pool5"


def _c3d_layers(backbone: Any) -> list[list[Stage]]:
    return [[getattr(backbone, name)] for name in _C3D.split()]


def _c3d_linear(backbone: Any, index: int, x: Tensor) -> Tensor:
    x = backbone.dropout(backbone.relu(backbone.fc6(x.flatten(1))))
    return backbone.relu(backbone.fc7(x))


_FEATURES = listed_layers("features")
_ALEX_NET = layer_chain(_FEATURES, outs=last_layer, give=_alex_net)


SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.c3d.C3D": layer_chain(
        _c3d_layers, outs=last_layer, give=_c3d_linear, bare=True
    ),
    "mmdet.models.backbones.ssd_vgg.SSDVGG": layer_chain(_FEATURES, outs=_out_feature_indices, bare=True),
    "mmpose.models.backbones.alexnet.AlexNet": _ALEX_NET,
    "mmpretrain.models.backbones.alexnet.AlexNet": _ALEX_NET,
    "mmpretrain.models.backbones.lenet.LeNet5": layer_chain(_FEATURES, outs=last_layer, give=_le_net),
    "mmpose.models.backbones.vgg.VGG": _VGG,
    "mmpretrain.models.backbones.vgg.VGG": _VGG,
}
