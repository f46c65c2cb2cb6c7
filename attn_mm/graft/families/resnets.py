"""ResNets of mmdet, mmpose and mmpretrain and what is built of their blocks, and our own staged backbones."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Family, Split, Stage, Step, Unit, as_it_is


def conv_and_norm(block: Any) -> list[Unit]:
    """The units of a residual block that names its layers ``conv1``, ``norm1`` and so on."""
    last = 3 if hasattr(block, "conv3") else 2
    return [
        Unit(
            f"conv{k}",
            getattr(block, f"conv{k}"),
            getattr(block, f"norm{k}"),
            block.relu if k < last else None,
            mmdet_plugins(block, k),
        )
        for k in range(1, last + 1)
    ]


def mmdet_plugins(block: Any, k: int) -> tuple[nn.Module, ...]:
    """What mmdet's own ``plugins`` put behind the ``k``-th convolution."""
    if not getattr(block, "with_plugins", False):
        return ()
    return tuple(getattr(block, name) for name in getattr(block, f"after_conv{k}_plugin_names"))


def downsampled(block: Any, x: Tensor) -> Tensor:
    """The shortcut of a residual block."""
    return x if block.downsample is None else block.downsample(x)


def relu(block: Any, x: Tensor) -> Tensor:
    """What a residual block does to the sum."""
    return block.relu(x)


def _conv_norm_se(block: Any) -> list[Unit]:
    *units, last = conv_and_norm(block)
    return [*units, last._replace(then=(*last.then, block.se_layer))]


def _conv_norm_attention(block: Any) -> list[Unit]:
    *units, last = conv_and_norm(block)
    return [*units, last if block.attention is None else last._replace(then=(block.attention,))]


_RESIDUAL = Family(conv_and_norm, downsampled, relu)
_RESIDUAL_SE = Family(_conv_norm_se, downsampled, relu)

FAMILIES: dict[str, Family] = {
    "attn_mm.models.backbones.wide_resnet.WideBlock": _RESIDUAL,
    "mmdet.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmdet.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmpose.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmpose.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmpose.models.backbones.seresnet.SEBottleneck": _RESIDUAL_SE,
    "mmpose.models.backbones.vipnas_resnet.ViPNAS_Bottleneck": Family(
        _conv_norm_attention, downsampled, relu
    ),
    "mmpretrain.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmpretrain.models.backbones.resnet.Bottleneck": _RESIDUAL,
    "mmpretrain.models.backbones.seresnet.SEBottleneck": _RESIDUAL_SE,
    "mmseg.models.backbones.resnet.BasicBlock": _RESIDUAL,
    "mmseg.models.backbones.resnet.Bottleneck": _RESIDUAL,
}


def _resnet_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.maxpool(_cifar_stem(backbone, x))


def _cifar_stem(backbone: Any, x: Tensor) -> Tensor:
    if backbone.deep_stem:
        return backbone.stem(x)
    return backbone.relu(backbone.norm1(backbone.conv1(x)))


def _regnet_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.relu(backbone.norm1(backbone.conv1(x)))


def _own_stem(backbone: Any, x: Tensor) -> Tensor:
    return backbone.stem(x)


def staged(stem: Step, after_first: Step = as_it_is, bare: bool = False) -> Split:
    """The split of a backbone whose stages are its ``res_layers``.

    Args:
        stem: what runs before the first.
        after_first: what runs behind it.
        bare: see :class:`Split`.
    """
    return Split(partial(_res_layers, stem, after_first), all_stages, last_blocks, bare=bare)


# Partial functions, not closures: torch 2.4 compiles no closure that is made in another.
def _res_layers(stem: Step, after_first: Step, backbone: Any) -> list[Stage]:
    first, *others = (getattr(backbone, name) for name in backbone.res_layers)
    return [partial(_first_stage, stem, after_first, first, backbone), *others]


def _first_stage(stem: Step, after_first: Step, layer: nn.Module, backbone: Any, x: Tensor) -> Tensor:
    return after_first(backbone, layer(stem(backbone, x)))


def all_stages(backbone: Any) -> range:
    """What ``out_indices`` calls the stages that ``res_layers`` names."""
    return range(len(backbone.res_layers))


def last_blocks(backbone: Any) -> list[nn.Module]:
    """The last block of each of those stages but the last."""
    return [getattr(backbone, name)[-1] for name in backbone.res_layers[:-1]]


_RESNET = staged(_resnet_stem)

SPLITS: dict[str, Split] = {
    "attn_mm.models.backbones.staged.StagedBackbone": staged(_own_stem),
    "mmdet.models.backbones.resnet.ResNet": _RESNET,
    "mmpose.models.backbones.resnet.ResNet": _RESNET,
    "mmpose.models.backbones.vipnas_resnet.ViPNAS_ResNet": _RESNET,
    "mmpretrain.models.backbones.resnet.ResNet": _RESNET,
    **dict.fromkeys(
        (
            "mmdet.models.backbones.regnet.RegNet",
            "mmpose.models.backbones.regnet.RegNet",
            "mmpretrain.models.backbones.regnet.RegNet",
        ),
        staged(_regnet_stem),
    ),
    "mmpretrain.models.backbones.resnet_cifar.ResNet_CIFAR": staged(_cifar_stem),
    "mmseg.models.backbones.resnet.ResNet": _RESNET,
}
