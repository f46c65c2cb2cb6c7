"""Read a residual block as a list of units: a convolution and what follows it.

A graft replaces a block's forward, so it must know what that forward does. It
recognises a block by the class that defines its ``forward``. The block keeps its
names, plugins, drop path and shortcut.

A VGG has no blocks, only a sequence of convolutions: :func:`plain_convs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn


class Unit(NamedTuple):
    """One convolution of a residual branch, its norm, its activation and the block's own layers behind."""

    name: str
    conv: nn.Module
    norm: nn.Module
    act: nn.Module | None
    then: tuple[Callable[[Tensor], Tensor], ...] = ()
    whole: nn.Module | None = None
    """The module that contains convolution, norm and activation; None where there is none."""

    @property
    def dims(self) -> Literal[2, 3]:
        """The dimensions that the convolution slides over."""
        dims: Any = len(self._of_conv("kernel_size"))
        return dims

    @property
    def in_channels(self) -> int:
        return self._of_conv("in_channels")

    @property
    def out_channels(self) -> int:
        return self._of_conv("out_channels")

    def _of_conv(self, attribute: str):
        if not hasattr(self.conv, attribute):
            raise TypeError(
                f"{self.name} is a {type(self.conv).__name__}, not a convolution that grafts support"
            )
        return getattr(self.conv, attribute)


class Family(NamedTuple):
    """How to read the blocks of one family, and how they end."""

    units: Callable[[Any], list[Unit]]
    shortcut: Callable[[Any, Tensor], Tensor | None]
    """``shortcut(block, x)``: what is added to the branch's output, None where nothing is."""
    finish: Callable[[Any, Tensor], Tensor]
    """``finish(block, sum)``: what the block does to the sum."""


@dataclass
class GraftedBlock:
    """What grafts have done to a block: ``block.attn_mm``.

    Attributes:
        family: found by the block's forward before a graft replaced it.
        last_unit: name of the unit at the branch's end; empty where the block runs as before.
        se_is_grafted: whether a graft's layer is in the place of the block's SE.
    """

    family: Family
    last_unit: str = ""
    se_is_grafted: bool = False


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


def _from_conv_module(name: str, module: Any, then: tuple = ()) -> Unit:
    if not hasattr(module, "conv"):
        raise TypeError(f"{name} is a {type(module).__name__}, not a ConvModule")
    act = module.activate if module.with_activation else None
    return Unit(name, module.conv, module.norm, act, then, module)


def _conv_modules(block: Any) -> list[Unit]:
    names = ("conv1", "conv2", "conv3") if hasattr(block, "conv3") else ("conv1", "conv2")
    return [_from_conv_module(name, getattr(block, name)) for name in names]


def _separable(block: Any) -> list[Unit]:
    return [
        Unit("depthwise", block.depthwise, block.norm1, block.relu),
        Unit("pointwise", block.pointwise, block.norm2, block.relu),
    ]


def _inverted(block: Any) -> list[Unit]:
    units = [_from_conv_module("expand", block.expand_conv)] if block.with_expand_conv else []
    units.append(_from_conv_module("depthwise", block.depthwise_conv, (block.se,) if block.with_se else ()))
    units.append(_from_conv_module("linear", block.linear_conv))
    return units


def _inverted_sequence(block: Any) -> list[Unit]:
    modules = list(block.conv)
    names = ("expand", "depthwise", "linear")[3 - len(modules) :]
    return [_from_conv_module(*pair) for pair in zip(names, modules)]


def _downsampled(block: Any, x: Tensor) -> Tensor:
    return x if block.downsample is None else block.downsample(x)


def _input_of_inverted(block: Any, x: Tensor) -> Tensor | None:
    return x if block.with_res_shortcut else None


def _input_of_inverted_sequence(block: Any, x: Tensor) -> Tensor | None:
    return x if block.use_res_connect else None


def _no_shortcut(block: Any, x: Tensor) -> None:
    return None


def _relu(block: Any, x: Tensor) -> Tensor:
    return block.relu(x)


def _relu_and_non_local(block: Any, x: Tensor) -> Tensor:
    x = block.relu(x)
    return block.non_local_block(x) if block.non_local else x


def _nothing(block: Any, x: Tensor) -> Tensor:
    return x


_RESIDUAL = Family(_conv_and_norm, _downsampled, _relu)
_RESIDUAL_OF_MODULES = Family(_conv_modules, _downsampled, _relu)
_RESIDUAL_3D = Family(_conv_modules, _downsampled, _relu_and_non_local)
_SEPARABLE = Family(_separable, _no_shortcut, _nothing)
_INVERTED = Family(_inverted, _input_of_inverted, _nothing)
_INVERTED_SEQUENCE = Family(_inverted_sequence, _input_of_inverted_sequence, _nothing)

FAMILIES: dict[str, Family] = {
    "attn_mm.models.backbones.mobilenet_v1.DepthwiseSeparable": _SEPARABLE,
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
    "mmdet.models.layers.inverted_residual.InvertedResidual": _INVERTED,
    "mmpose.models.backbones.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmpretrain.models.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmpose.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
    "mmpretrain.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
}
"""Family of each known block, keyed by the class that defines ``forward``."""


def forward_owner(module: nn.Module) -> str:
    """The full name of the class that defines ``module``'s forward."""
    cls = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return f"{cls.__module__}.{cls.__qualname__}"


def other_forwards(module: nn.Module) -> list[str]:
    """Further forwards of ``module``: those of the classes derived from the one that defines ``forward``.

    A graft that replaces the forward does not reach them. A class's own helpers of its forward don't count.
    """
    derived = takewhile(lambda cls: "forward" not in vars(cls), type(module).__mro__)
    names = chain.from_iterable(map(vars, derived))
    return [name for name in names if name.endswith("_forward") or name.startswith("forward_")]


def find_family(block: nn.Module) -> Family | None:
    """Find the family of ``block``; None if its forward is not known."""
    record = getattr(block, "attn_mm", None)
    return record.family if isinstance(record, GraftedBlock) else FAMILIES.get(forward_owner(block))


def family_of(block: nn.Module) -> Family:
    """The family of ``block``, one of those that :func:`attn_mm.graft.selection.stage_blocks` gives."""
    family = find_family(block)
    assert family is not None, f"{type(block).__name__} is a block of no known family"
    return family


def record_of_block(block: Any) -> GraftedBlock:
    """The record of ``block``, for a graft to write in; one is put on it where it has none."""
    record = getattr(block, "attn_mm", None)
    if not isinstance(record, GraftedBlock):
        record = block.attn_mm = GraftedBlock(family_of(block))
    return record


def plain_convs(backbone: nn.Module) -> list[dict[str, nn.Module]]:
    """The convolutions in ``backbone.features`` by name, a dict for each group between two pools.

    They are named as those of VGG are: ``conv1_1`` to ``conv5_3``; ``conv6_1`` and ``conv6_2`` are what SSD's
    paper calls conv6 and conv7. The list is empty where ``features`` is no sequence of layers.
    """
    features = getattr(backbone, "features", None)
    groups: list[list[nn.Module]] = [[]]
    for layer in features if isinstance(features, nn.Sequential) else ():
        conv = getattr(layer, "conv", layer)  # of a ConvModule
        if isinstance(layer, nn.MaxPool2d):
            groups.append([])
        elif isinstance(conv, nn.Conv2d):
            groups[-1].append(conv)
    return [
        {f"conv{i}_{j}": conv for j, conv in enumerate(group, 1)}
        for i, group in enumerate(filter(None, groups), 1)
    ]
