"""RepLKNet: residual blocks around a very large depthwise convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Family, Split, Stage, Unit, input_as_shortcut, layer_chain, several


def _block(block: Any) -> list[Unit]:
    first = Unit(
        "expand",
        block.pw1.conv,
        block.pw1.bn,
        block.pw1.nonlinear,
        before=(block.prelkb_bn,),
        whole=block.pw1,
    )
    kernels = [module for module in block.large_kernel.modules() if isinstance(module, nn.Conv2d)]
    channels = first.out_channels, first.out_channels
    return [
        first,
        several("large_kernel", block.large_kernel, tuple(kernels), channels, (block.lk_nonlinear,)),
        Unit("linear", block.pw2.conv, block.pw2.bn, None),
    ]


def _feed_forward(block: Any) -> list[Unit]:
    return [
        Unit("fc1", block.pw1.conv, block.pw1.bn, block.nonlinear, before=(block.preffn_bn,)),
        Unit("fc2", block.pw2.conv, block.pw2.bn, None),
    ]


FAMILIES: dict[str, Family] = {
    "mmpretrain.models.backbones.replknet.ConvFFN": Family(_feed_forward, input_as_shortcut),
    "mmpretrain.models.backbones.replknet.RepLKBlock": Family(_block, input_as_shortcut),
}


def _stem(backbone: Any, x: Tensor) -> Tensor:
    for layer in backbone.stem:
        x = layer(x)
    return x


def _layers(backbone: Any) -> list[list[Stage]]:
    first, *others = backbone.stages
    return [[first], *map(list, zip(backbone.transitions, others))]


def _normalized(backbone: Any, index: int, x: Tensor) -> Tensor:
    return backbone.stages[index].norm(x)


SPLITS: dict[str, Split] = {
    "mmpretrain.models.backbones.replknet.RepLKNet": layer_chain(_layers, _stem, give=_normalized),
}
