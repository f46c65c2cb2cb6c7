"""MobileNets of mmdet, mmpose and mmpretrain."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attn_mm.graft.families.family import Family, Split, Unit, as_it_is, from_conv_module, no_shortcut


def _separable(block: Any) -> list[Unit]:
    return [
        Unit("depthwise", block.depthwise, block.norm1, block.relu),
        Unit("pointwise", block.pointwise, block.norm2, block.relu),
    ]


def _inverted(block: Any) -> list[Unit]:
    units = [from_conv_module("expand", block.expand_conv)] if block.with_expand_conv else []
    units.append(from_conv_module("depthwise", block.depthwise_conv, (block.se,) if block.with_se else ()))
    units.append(from_conv_module("linear", block.linear_conv))
    return units


def _inverted_sequence(block: Any) -> list[Unit]:
    modules = list(block.conv)
    names = ("expand", "depthwise", "linear")[3 - len(modules) :]
    return [from_conv_module(*pair) for pair in zip(names, modules)]


def _input_of_inverted(block: Any, x: Tensor) -> Tensor | None:
    return x if block.with_res_shortcut else None


def _input_of_inverted_sequence(block: Any, x: Tensor) -> Tensor | None:
    return x if block.use_res_connect else None


_INVERTED = Family(_inverted, _input_of_inverted, as_it_is)
_INVERTED_SEQUENCE = Family(_inverted_sequence, _input_of_inverted_sequence, as_it_is)

FAMILIES: dict[str, Family] = {
    "attn_mm.models.backbones.mobilenet_v1.DepthwiseSeparable": Family(_separable, no_shortcut, as_it_is),
    "mmdet.models.layers.inverted_residual.InvertedResidual": _INVERTED,
    "mmpose.models.backbones.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmpretrain.models.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmpose.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
    "mmpretrain.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
}

SPLITS: dict[str, Split] = {}
