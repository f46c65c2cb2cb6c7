"""Networks of mmpose with blocks of their own: RSN, V2V-Net and CPM."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_mm.graft.families.family import Family, Unit, conv_module_chain, from_conv_module, several
from attn_mm.graft.families.resnets import downsampled, relu


# "Learning Delicate Local Representations for Multi-Person Pose Estimation", figure 3
# (https://arxiv.org/abs/2003.04030).
def _steps(block: Any, x: Tensor) -> Tensor:
    above: list[Tensor] = []
    ends = []
    for i, part in enumerate(torch.split(x, block.branch_channels, 1), 1):
        row: list[Tensor] = []
        for j in range(1, i + 1):
            y = row[-1] if row else part
            if j < i:
                y = y + above[j - 1]
            row.append(getattr(block, f"conv_bn_relu2_{i}_{j}")(y))
        ends.append(row[-1])
        above = row
    return torch.cat(ends, 1)


def _rsn(block: Any) -> list[Unit]:
    first = from_conv_module("conv1", block.conv_bn_relu1)
    steps = range(1, block.num_steps + 1)
    convs = [getattr(block, f"conv_bn_relu2_{i}_{j}").conv for i in steps for j in range(1, i + 1)]
    channels = first.out_channels, first.out_channels
    return [
        first,
        several("conv2", partial(_steps, block), tuple(convs), channels),
        from_conv_module("conv3", block.conv_bn3),
    ]


def _v2v(block: Any) -> list[Unit]:
    return conv_module_chain(("conv1", "conv2"), block.res_branch)


def _skip(block: Any, x: Tensor) -> Tensor:
    return block.skip_con(x)


def _relu_in_place(block: Any, x: Tensor) -> Tensor:
    return F.relu(x, True)


def _cpm(block: Any) -> list[Unit]:
    return conv_module_chain([f"conv{k}" for k in range(1, len(block.model) + 1)], block.model)


FAMILIES: dict[str, Family] = {
    "mmpose.models.backbones.cpm.CpmBlock": Family(_cpm),
    "mmpose.models.backbones.rsn.RSB": Family(_rsn, downsampled, relu),
    "mmpose.models.backbones.v2v_net.Res3DBlock": Family(_v2v, _skip, _relu_in_place),
}
