"""ShuffleNetV1, ShuffleNetV2 and the blocks of LiteHRNet that are taken from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attn_mm.graft.families.family import (
    Family,
    Split,
    Unit,
    channel_shuffle,
    from_conv_module,
    in_turn,
    layer_chain,
    listed_layers,
)

# The shuffled blocks name their convolutions by what they do.
_NAMES = ("expand", "depthwise", "linear")


def _grouped(block: Any) -> list[Unit]:
    shuffle = (partial(channel_shuffle, groups=block.groups),) if block.groups > 1 else ()
    return [
        from_conv_module("compress", block.g_conv_1x1_compress),
        from_conv_module("depthwise", block.depthwise_conv3x3_bn, shuffle),
        from_conv_module("expand", block.g_conv_1x1_expand),
    ]


def _combine(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    if block.combine == "concat":
        return torch.cat([block.avgpool(x), block.act(branch)], 1)
    return block.act(x + branch)


def _second_branch(block: Any) -> list[Unit]:
    first, *others = (from_conv_module(*pair) for pair in zip(_NAMES, block.branch2))
    return [first if block.stride > 1 else first._replace(before=(_right,)), *others]


# An odd channel is on the left.
def _left(x: Tensor) -> Tensor:
    return x[:, : (x.shape[1] + 1) // 2]


def _right(x: Tensor) -> Tensor:
    return x[:, (x.shape[1] + 1) // 2 :]


def _shuffle_in(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    rest = block.branch1(x) if block.stride > 1 else _left(x)
    return channel_shuffle(torch.cat([rest, branch], 1), 2)


_V1 = Family(_grouped, join=_combine)
_V2 = Family(_second_branch, join=_shuffle_in)

FAMILIES: dict[str, Family] = {
    "mmpose.models.backbones.litehrnet.ShuffleUnit": _V2,
    "mmpose.models.backbones.shufflenet_v1.ShuffleUnit": _V1,
    "mmpose.models.backbones.shufflenet_v2.InvertedResidual": _V2,
    "mmpretrain.models.backbones.shufflenet_v1.ShuffleUnit": _V1,
    "mmpretrain.models.backbones.shufflenet_v2.InvertedResidual": _V2,
}

_SHUFFLENET = layer_chain(listed_layers("layers"), in_turn("conv1", "maxpool"))

SPLITS: dict[str, Split] = {
    "mmpose.models.backbones.shufflenet_v1.ShuffleNetV1": _SHUFFLENET,
    "mmpose.models.backbones.shufflenet_v2.ShuffleNetV2": _SHUFFLENET,
    "mmpretrain.models.backbones.shufflenet_v1.ShuffleNetV1": _SHUFFLENET,
    "mmpretrain.models.backbones.shufflenet_v2.ShuffleNetV2": _SHUFFLENET,
}
