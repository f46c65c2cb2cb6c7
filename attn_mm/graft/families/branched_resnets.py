"""ResNets whose middle convolution has branches: Res2Net, ResNeSt and SCNet."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attn_mm.graft.families.family import Family, Unit, several
from attn_mm.graft.families.resnets import conv_and_norm, downsampled, mmdet_plugins, relu


# "Res2Net: A New Multi-scale Backbone Architecture", figure 2 (https://arxiv.org/abs/1904.01169).
def _scales(block: Any, x: Tensor) -> Tensor:
    parts = torch.split(x, block.width, 1)
    outs: list[Tensor] = []
    for conv, norm, part in zip(block.convs, block.bns, parts):
        if outs and block.stage_type != "stage":
            part = outs[-1] + part
        outs.append(block.relu(norm(conv(part.contiguous()))))
    last = parts[block.scales - 1]
    if hasattr(block, "pool"):
        last = block.pool(last)
    return torch.cat([*outs, last], 1)


def _res2net(block: Any) -> list[Unit]:
    first, last = _outer(block)
    channels = first.out_channels, last.in_channels
    convs = tuple(block.convs)
    return [
        first,
        several("conv2", partial(_scales, block), convs, channels, mmdet_plugins(block, 2)),
        last,
    ]


def _outer(block: Any) -> tuple[Unit, Unit]:
    first = Unit("conv1", block.conv1, block.norm1, block.relu, mmdet_plugins(block, 1))
    last = Unit("conv3", block.conv3, block.norm3, None, mmdet_plugins(block, 3))
    return first, last


def _resnest(block: Any) -> list[Unit]:
    first, last = _outer(block)
    pool = (block.avd_layer,) if block.avg_down_stride else ()
    then = (*pool, *mmdet_plugins(block, 2))
    channels = first.out_channels, last.in_channels
    return [first, several("conv2", block.conv2, (block.conv2.conv,), channels, then), last]


# "Improving Convolutional Networks with Self-Calibrated Convolutions", figure 2 (CVPR 2020).
def _self_calibrated(block: Any, x: Tensor) -> Tensor:
    plain = block.k1(block.relu(block.norm1(block.conv1(x))))
    calibrated = block.scconv(block.relu(block.norm2(block.conv2(x))))
    return torch.cat([plain, calibrated], 1)


def _scnet(block: Any) -> list[Unit]:
    last = conv_and_norm(block)[-1]
    inner = block.scconv
    convs = (block.k1[0], inner.k2[1], inner.k3[0], inner.k4[0])
    channels = block.conv1.in_channels, last.in_channels
    return [several("conv2", partial(_self_calibrated, block), convs, channels), last]


_RES2NET = Family(_res2net, downsampled, relu)
_RESNEST = Family(_resnest, downsampled, relu)

FAMILIES: dict[str, Family] = {
    "mmdet.models.backbones.res2net.Bottle2neck": _RES2NET,
    "mmpretrain.models.backbones.res2net.Bottle2neck": _RES2NET,
    "mmdet.models.backbones.resnest.Bottleneck": _RESNEST,
    "mmpose.models.backbones.resnest.Bottleneck": _RESNEST,
    "mmpretrain.models.backbones.resnest.Bottleneck": _RESNEST,
    "mmseg.models.backbones.resnest.Bottleneck": _RESNEST,
    "mmpose.models.backbones.scnet.SCBottleneck": Family(_scnet, downsampled, relu),
}
