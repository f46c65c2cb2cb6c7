"""MobileNets, EfficientNets and other networks of inverted residual blocks."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from attn_mm.graft.families.family import (
    Family,
    Split,
    Stage,
    Unit,
    from_conv_module,
    in_turn,
    input_as_shortcut,
    last_layer,
    layer_chain,
    listed_layers,
    named_layers,
)


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
    return [_shifted(*pair) for pair in zip(names, modules)]


def _shifted(name: str, module: Any) -> Unit:
    """The unit of a convolution, which may have mmaction's ``TemporalShift`` around it."""
    if not hasattr(module, "shift_div"):
        return from_conv_module(name, module)

    shift = partial(module.shift, num_segments=module.num_segments, shift_div=module.shift_div)
    return from_conv_module(name, module.net)._replace(before=(shift,))


def _edge(block: Any) -> list[Unit]:
    return [
        from_conv_module("conv1", block.conv1, (block.se,) if block.with_se else ()),
        from_conv_module("conv2", block.conv2),
    ]


def _edge_input(block: Any, x: Tensor) -> Tensor | None:
    return x if block.with_residual else None


# A ConvModule that is a residual block itself.
def _enhanced(block: Any) -> list[Unit]:
    return [Unit("conv", block.conv, block.norm, block.activate if block.with_activation else None)]


def _enhanced_input(block: Any, x: Tensor) -> Tensor | None:
    return x if block.has_skip else None


def _tiny_vit(block: Any) -> list[Unit]:
    convs = (block.conv1, block.conv2, block.conv3)
    acts = (block.act, block.act, None)
    names = ("expand", "depthwise", "linear")
    return [Unit(name, conv.conv2d, conv.bn2d, act) for name, conv, act in zip(names, convs, acts)]


def _act(block: Any, x: Tensor) -> Tensor:
    return block.act(x)


def _input_of_inverted(block: Any, x: Tensor) -> Tensor | None:
    return x if block.with_res_shortcut else None


def _input_of_inverted_sequence(block: Any, x: Tensor) -> Tensor | None:
    return x if block.use_res_connect else None


_INVERTED = Family(_inverted, _input_of_inverted)
_INVERTED_SEQUENCE = Family(_inverted_sequence, _input_of_inverted_sequence)
_EDGE = Family(_edge, _edge_input)

FAMILIES: dict[str, Family] = {
    "attn_mm.models.backbones.mobilenet_v1.DepthwiseSeparable": Family(_separable),
    "mmaction.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
    "mmdet.models.backbones.efficientnet.EdgeResidual": _EDGE,
    "mmdet.models.layers.inverted_residual.InvertedResidual": _INVERTED,
    "mmpose.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
    "mmpose.models.backbones.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmpretrain.models.backbones.efficientnet.EdgeResidual": _EDGE,
    "mmpretrain.models.backbones.efficientnet_v2.EnhancedConvModule": Family(_enhanced, _enhanced_input),
    "mmpretrain.models.backbones.mobilenet_v2.InvertedResidual": _INVERTED_SEQUENCE,
    "mmpretrain.models.backbones.tinyvit.MBConvBlock": Family(_tiny_vit, input_as_shortcut, _act),
    "mmpretrain.models.utils.inverted_residual.InvertedResidual": _INVERTED,
    "mmseg.models.utils.inverted_residual.InvertedResidual": _INVERTED_SEQUENCE,
    "mmseg.models.utils.inverted_residual.InvertedResidualV3": _INVERTED,
}


def _mobile_vit_layers(backbone: Any) -> list[list[Stage]]:
    *others, last = ([layer] for layer in backbone.layers)
    return [*others, [*last, backbone.conv_1x1_exp]]


_CONV_AND_NAMED = layer_chain(named_layers("layers"), in_turn("conv1"))
_LISTED = layer_chain(listed_layers("layers"))

SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.mobilenet_v2.MobileNetV2": layer_chain(
        named_layers("layers"), in_turn("conv1"), bare=True
    ),
    "mmdet.models.backbones.efficientnet.EfficientNet": _LISTED,
    "mmdet.models.backbones.mobilenet_v2.MobileNetV2": _CONV_AND_NAMED,
    "mmpose.models.backbones.mobilenet_v2.MobileNetV2": _CONV_AND_NAMED,
    "mmpose.models.backbones.mobilenet_v3.MobileNetV3": _CONV_AND_NAMED,
    "mmpose.models.backbones.vipnas_mbv3.ViPNAS_MobileNetV3": layer_chain(
        named_layers("layers"), in_turn("conv1"), last_layer
    ),
    "mmpretrain.models.backbones.efficientnet.EfficientNet": _LISTED,
    "mmpretrain.models.backbones.efficientnet_v2.EfficientNetV2": _LISTED,
    "mmpretrain.models.backbones.mobilenet_v2.MobileNetV2": _CONV_AND_NAMED,
    "mmpretrain.models.backbones.mobilenet_v3.MobileNetV3": layer_chain(named_layers("layers")),
    "mmpretrain.models.backbones.mobilevit.MobileViT": layer_chain(_mobile_vit_layers, in_turn("stem")),
    "mmseg.models.backbones.mobilenet_v2.MobileNetV2": layer_chain(
        named_layers("layers"), in_turn("conv1"), bare=True
    ),
    "mmseg.models.backbones.mobilenet_v3.MobileNetV3": layer_chain(named_layers("layers")),
}
