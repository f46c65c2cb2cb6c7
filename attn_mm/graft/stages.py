"""Split a built backbone into stages, if its forward is known.

A graft replaces a backbone's forward, so it must know what that forward does.
It recognises a backbone by the class that defines its ``forward``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from attn_mm.graft.units import find_family, forward_owner

Stage = Callable[[Tensor], Tensor]
Step = Callable[[Any, Tensor], Tensor]


class Split(NamedTuple):
    """How to split the backbones of one family into stages."""

    stages: Callable[[Any], list[Stage]]
    convs: Callable[[Any], list[nn.Module]]
    """The last convolution of every stage but the last: of each stage that can be attended."""
    indices: Callable[[Any], range]
    """What ``out_indices`` calls the stages."""
    bare: bool = False
    """Whether the backbone returns a single map as a tensor, not as a tuple of one."""


def _resnet_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.maxpool(_cifar_stem(backbone, x))


def _cifar_stem(backbone: Any, x: Tensor) -> Tensor:
    if backbone.deep_stem:
        return backbone.stem(x)
    return backbone.relu(backbone.norm1(backbone.conv1(x)))


def _conv_and_pool(backbone: Any, x: Tensor) -> Tensor:
    return backbone.maxpool(backbone.conv1(x))


def _mmaction_stem(backbone: Any, x: Tensor) -> Tensor:
    return _conv_and_pool(backbone, x) if getattr(backbone, "with_pool1", True) else backbone.conv1(x)


def _pool2(backbone: Any, x: Tensor) -> Tensor:
    return backbone.pool2(x) if getattr(backbone, "with_pool2", False) else x


def _as_it_is(backbone: Any, x: Tensor) -> Tensor:
    return x


def _staged(stem: Step, after_first: Step = _as_it_is, bare: bool = False) -> Split:
    return Split(partial(_res_layers, stem, after_first), _stage_convs, _all_stages, bare)


# Partial functions, not closures: torch 2.4 compiles no closure that is made in another.
def _res_layers(stem: Step, after_first: Step, backbone: Any) -> list[Stage]:
    first, *others = (getattr(backbone, name) for name in backbone.res_layers)
    return [partial(_first_stage, stem, after_first, first, backbone), *others]


def _first_stage(stem: Step, after_first: Step, layer: nn.Module, backbone: Any, x: Tensor) -> Tensor:
    return after_first(backbone, layer(stem(backbone, x)))


def _all_stages(backbone: Any) -> range:
    return range(len(backbone.res_layers))


def _stage_convs(backbone: Any) -> list[nn.Module]:
    return [_last_conv(getattr(backbone, name)[-1]) for name in backbone.res_layers[:-1]]


def _last_conv(block: nn.Module) -> nn.Module:
    family = find_family(block)
    if family is not None:
        return family.units(block)[-1].conv
    names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
    if not names:
        raise TypeError(f"{type(block).__name__} is not a residual block that grafts support")
    return getattr(block, names[-1])


def _vgg_stages(backbone: Any) -> list[Stage]:
    return [*_vgg_groups(backbone), partial(_vgg_classifier, backbone)]


def _vgg_groups(backbone: Any) -> list[nn.Sequential]:
    ends = [end for _, end in backbone.range_sub_modules[2:]]
    return [backbone.features[start:end] for start, end in zip([0, *ends], ends)]


def _vgg_classifier(backbone: Any, x: Tensor) -> Tensor:
    return backbone.classifier(x.flatten(1)) if backbone.num_classes > 0 else x


def _vgg_convs(backbone: Any) -> list[nn.Module]:
    groups = _vgg_groups(backbone)
    return [[m for m in group.modules() if isinstance(m, nn.Conv2d)][-1] for group in groups]


def _vgg_indices(backbone: Any) -> range:
    return range(2, 6)


def _own_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.stem(x)


_RESNET = _staged(_resnet_stem)
_MMACTION = _staged(_mmaction_stem, _pool2, bare=True)
_VGG = Split(_vgg_stages, _vgg_convs, _vgg_indices)

SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.resnet.ResNet": _MMACTION,
    "mmaction.models.backbones.resnet2plus1d.ResNet2Plus1d": _staged(_conv_and_pool, bare=True),
    "mmaction.models.backbones.resnet3d.ResNet3d": _MMACTION,
    "mmdet.models.backbones.resnet.ResNet": _RESNET,
    "mmpose.models.backbones.resnet.ResNet": _RESNET,
    "mmpretrain.models.backbones.resnet.ResNet": _RESNET,
    "mmpretrain.models.backbones.resnet_cifar.ResNet_CIFAR": _staged(_cifar_stem),
    "attn_mm.models.backbones.staged.StagedBackbone": _staged(_own_stem),
    "mmpose.models.backbones.vgg.VGG": _VGG,
    "mmpretrain.models.backbones.vgg.VGG": _VGG,
}
"""Split of each known family, keyed by the class that defines ``forward``.

A ResNet's stages are its layers, the stem being part of the first. A VGG's are
its first three groups of convolutions, the fourth, the fifth, and the classifier
(or nothing, where it has none): so its published parameters have it, with
attention behind the third, fourth and fifth pool.
"""


def find_split(backbone: nn.Module) -> Split:
    """How ``backbone`` falls into stages.

    Raises:
        TypeError: the backbone's forward is of none of the known families.
    """
    name = forward_owner(backbone)
    if name not in SPLITS:
        raise TypeError(
            f"{type(backbone).__name__} can't be split into stages: its forward is that of {name}; "
            "attn_mm.graft.stages.SPLITS lists the supported ones"
        )
    return SPLITS[name]
