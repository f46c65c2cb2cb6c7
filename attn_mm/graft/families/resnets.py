"""ResNets of mmdet, mmpose, mmpretrain and mmaction, in 2D and 3D, and the package's own staged backbones."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Family, Split, Stage, Step, Unit, as_it_is, from_conv_module


def _conv_and_norm(block: Any) -> list[Unit]:
    last = 3 if hasattr(block, "conv3") else 2
    return [
        Unit(
            f"conv{k}",
            getattr(block, f"conv{k}"),
            getattr(block, f"norm{k}"),
            block.relu if k < last else None,
            _mmdet_plugins(block, k),
        )
        for k in range(1, last + 1)
    ]


def _mmdet_plugins(block: Any, k: int) -> tuple[nn.Module, ...]:
    if not getattr(block, "with_plugins", False):
        return ()
    return tuple(getattr(block, name) for name in getattr(block, f"after_conv{k}_plugin_names"))


def _conv_modules(block: Any) -> list[Unit]:
    names = ("conv1", "conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
    return [from_conv_module(name, getattr(block, name)) for name in names]


def downsampled(block: Any, x: Tensor) -> Tensor:
    """The shortcut of a residual block."""
    return x if block.downsample is None else block.downsample(x)


def relu(block: Any, x: Tensor) -> Tensor:
    """What a residual block does to the sum."""
    return block.relu(x)


def _relu_and_non_local(block: Any, x: Tensor) -> Tensor:
    x = block.relu(x)
    return block.non_local_block(x) if block.non_local else x


_RESIDUAL = Family(_conv_and_norm, downsampled, relu)
_RESIDUAL_OF_MODULES = Family(_conv_modules, downsampled, relu)
_RESIDUAL_3D = Family(_conv_modules, downsampled, _relu_and_non_local)

FAMILIES: dict[str, Family] = {
    "attn_mm.models.backbones.wide_resnet.WideBlock": _RESIDUAL,
    "mmdet.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmdet.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmpose.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmpose.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmpretrain.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmpretrain.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmaction.models.backbones.resnet.BasicBlock": _RESIDUAL_OF_MODULES,
    "mmaction.models.backbones.resnet.Bottleneck": _RESIDUAL_OF_MODULES,
    "mmaction.models.backbones.resnet3d.BasicBlock3d": _RESIDUAL_3D,
    "mmaction.models.backbones.resnet3d.Bottleneck3d": _RESIDUAL_3D,
}


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


def _own_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.stem(x)


def _staged(stem: Step, after_first: Step = as_it_is, bare: bool = False) -> Split:
    return Split(partial(_res_layers, stem, after_first), _last_blocks, _all_stages, bare)


# Partial functions, not closures: torch 2.4 compiles no closure that is made in another.
def _res_layers(stem: Step, after_first: Step, backbone: Any) -> list[Stage]:
    first, *others = (getattr(backbone, name) for name in backbone.res_layers)
    return [partial(_first_stage, stem, after_first, first, backbone), *others]


def _first_stage(stem: Step, after_first: Step, layer: nn.Module, backbone: Any, x: Tensor) -> Tensor:
    return after_first(backbone, layer(stem(backbone, x)))


def _all_stages(backbone: Any) -> range:
    return range(len(backbone.res_layers))


def _last_blocks(backbone: Any) -> list[nn.Module]:
    return [getattr(backbone, name)[-1] for name in backbone.res_layers[:-1]]


_RESNET = _staged(_resnet_stem)
_MMACTION = _staged(_mmaction_stem, _pool2, bare=True)

SPLITS: dict[str, Split] = {
    "attn_mm.models.backbones.staged.StagedBackbone": _staged(_own_stem),
    "mmaction.models.backbones.resnet.ResNet": _MMACTION,
    "mmaction.models.backbones.resnet2plus1d.ResNet2Plus1d": _staged(_conv_and_pool, bare=True),
    "mmaction.models.backbones.resnet3d.ResNet3d": _MMACTION,
    "mmdet.models.backbones.resnet.ResNet": _RESNET,
    "mmpose.models.backbones.resnet.ResNet": _RESNET,
    "mmpretrain.models.backbones.resnet.ResNet": _RESNET,
    "mmpretrain.models.backbones.resnet_cifar.ResNet_CIFAR": _staged(_cifar_stem),
}
