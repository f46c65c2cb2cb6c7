"""ConvNeXt and networks with its blocks: a large depthwise convolution and two linear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from attn_mm.graft.families.family import (
    Family,
    Split,
    Stage,
    Unit,
    layer_chain,
    listed_layers,
)


# A linear layer wants the channels last. Units pass maps with channels first, which changes strides only.
def _depthwise(block: Any, x: Tensor) -> Tensor:
    return _in_format(block, block.norm, block.depthwise_conv(x))


def _grn(block: Any, x: Tensor) -> Tensor:
    return _in_format(block, block.grn, x)


def _in_format(block: Any, layer: nn.Module, x: Tensor) -> Tensor:
    if block.linear_pw_conv:
        return layer(x.movedim(1, -1), data_format="channel_last").movedim(-1, 1)
    return layer(x, data_format="channel_first")


def _scale(block: Any, x: Tensor) -> Tensor:
    return x if block.gamma is None else x.mul(block.gamma.view(1, -1, 1, 1))


def _conv_next(block: Any) -> list[Unit]:
    grn = () if block.grn is None else (partial(_grn, block),)
    return [
        Unit("depthwise", block.depthwise_conv, block.norm, None, whole=partial(_depthwise, block)),
        Unit("pointwise1", block.pointwise_conv1, None, block.act, grn),
        Unit("pointwise2", block.pointwise_conv2, None, None, (partial(_scale, block),)),
    ]


def _hornet_mixer(block: Any, x: Tensor) -> Tensor:
    return x + block.drop_path(block.gamma1(block.gnconv(block.norm1(x))))


def _hornet(block: Any) -> list[Unit]:
    return [
        Unit("pointwise1", block.pwconv1, None, block.act, before=(partial(_channels_last, block.norm2),)),
        Unit("pointwise2", block.pwconv2, None, None, (partial(_channels_last, block.gamma2),)),
    ]


# The input comes first: the sum takes over its strides.
def _add(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    return x + block.drop_path(branch)


def _channels_last(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x.movedim(1, -1)).movedim(-1, 1)


FAMILIES: dict[str, Family] = {
    "mmpretrain.models.backbones.convnext.ConvNeXtBlock": Family(_conv_next, join=_add),
    "mmpretrain.models.backbones.hornet.HorNetBlock": Family(_hornet, enter=_hornet_mixer, join=_add),
}


def _normalized(backbone: Any, index: int, x: Tensor) -> Tensor:
    norm = getattr(backbone, f"norm{index}")
    if backbone.gap_before_final_norm:
        return norm(x.mean([-2, -1], keepdim=True)).flatten(1)
    return norm(x)


def _edge_normalized(backbone: Any, index: int, x: Tensor) -> Tensor:
    norm = getattr(backbone, f"norm{index}")
    if backbone.gap_before_final_norm:
        return norm(x.mean([-2, -1], keepdim=True).flatten(1))
    return norm(x).contiguous()


def _hornet_normalized(backbone: Any, index: int, x: Tensor) -> Tensor:
    return _normalized(backbone, index, x).contiguous()


def _add_position(embed: nn.Module, x: Tensor) -> Tensor:
    return x + embed((x.shape[0], *x.shape[2:]))


def _edge_layers(backbone: Any) -> list[list[Stage]]:
    first, *others = listed_layers("downsample_layers", "stages")(backbone)
    if backbone.pos_embed:
        first.append(partial(_add_position, backbone.pos_embed))
    return [first, *others]


def _hornet_stage(backbone: Any, index: int, x: Tensor) -> Tensor:
    x, stage = backbone.downsample_layers[index](x), backbone.stages[index]
    if backbone.with_cp and torch.is_grad_enabled():
        return checkpoint_sequential(stage, len(stage), x, use_reentrant=False)
    return stage(x)


def _hornet_stages(backbone: Any) -> list[Stage]:
    return [partial(_hornet_stage, backbone, index) for index in range(4)]


def _four(backbone: Any) -> range:
    return range(4)


SPLITS: dict[str, Split] = {
    "mmpretrain.models.backbones.convnext.ConvNeXt": layer_chain(
        listed_layers("downsample_layers", "stages"), give=_normalized
    ),
    "mmpretrain.models.backbones.edgenext.EdgeNeXt": layer_chain(_edge_layers, give=_edge_normalized),
    "mmpretrain.models.backbones.hornet.HorNet": Split(_hornet_stages, _four, give=_hornet_normalized),
}
