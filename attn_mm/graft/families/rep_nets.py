"""RepVGG and MobileOne: blocks of convolutions side by side that deployment merges into one."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from attn_mm.graft.families.family import Family, Split, Stage, Unit, in_turn, layer_chain, named_layers


# The branch with the largest convolution is the one that attention goes into.
def _rep_vgg(block: Any) -> list[Unit]:
    if block.deploy:
        return [Unit("reparam", block.branch_reparam, None, None)]
    return [Unit("conv3x3", block.branch_3x3.conv, block.branch_3x3.norm, None)]


def _rep_vgg_sum(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    if not block.deploy:
        branch = branch + block.branch_1x1(x)
        if block.branch_norm is not None:
            branch = branch + block.branch_norm(x)
    return branch if block.se_layer is None else block.se_layer(branch)


def _act(block: Any, x: Tensor) -> Tensor:
    return block.act(x)


def _mobile_one(block: Any) -> list[Unit]:
    if block.deploy:
        return [Unit("reparam", block.branch_reparam, None, None)]
    last = block.branch_conv_list[-1]
    return [Unit("conv", last.conv, last.norm, None)]


def _mobile_one_sum(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    if block.deploy:
        return branch
    others = [block.branch_norm, block.branch_scale, *block.branch_conv_list[:-1]]
    outs = [other(x) for other in others if other is not None]
    return reduce(add, [*outs, branch])


def _se_act(block: Any, x: Tensor) -> Tensor:
    return block.act(block.se(x))


FAMILIES: dict[str, Family] = {
    "mmpretrain.models.backbones.mobileone.MobileOneBlock": Family(
        _mobile_one, finish=_se_act, join=_mobile_one_sum
    ),
    "mmpretrain.models.backbones.repvgg.RepVGGBlock": Family(_rep_vgg, finish=_act, join=_rep_vgg_sum),
}


def _rep_vgg_stages(backbone: Any) -> list[list[Stage]]:
    *others, last = named_layers("stages")(backbone)
    return [*others, [*last, backbone.ppf]]


SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.mobileone_tsm.MobileOneTSM": layer_chain(
        named_layers("stages"), in_turn("stage0"), bare=True
    ),
    "mmpretrain.models.backbones.mobileone.MobileOne": layer_chain(named_layers("stages"), in_turn("stage0")),
    "mmpretrain.models.backbones.repvgg.RepVGG": layer_chain(_rep_vgg_stages, in_turn("stem")),
}
