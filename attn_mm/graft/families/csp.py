"""Darknet, and the cross-stage partial networks CSPDarknet, CSPNeXt, CSPResNet and CSPResNeXt."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attn_mm.graft.families.family import (
    Family,
    Split,
    Unit,
    conv_module_chain,
    in_turn,
    input_as_shortcut,
    layer_chain,
    listed_layers,
    named_layers,
)


def _two(block: Any) -> list[Unit]:
    return conv_module_chain(("conv1", "conv2"), (block.conv1, block.conv2))


def _identity(block: Any, x: Tensor) -> Tensor | None:
    return x if block.add_identity else None


def _drop_and_add(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    branch = block.drop_path(branch)
    return branch + x if block.add_identity else branch


_BOTTLENECK = Family(_two, _identity)

FAMILIES: dict[str, Family] = {
    "mmdet.models.backbones.darknet.ResBlock": Family(_two, input_as_shortcut),
    "mmdet.models.layers.csp_layer.CSPNeXtBlock": _BOTTLENECK,
    "mmdet.models.layers.csp_layer.DarknetBottleneck": _BOTTLENECK,
    "mmpose.models.utils.csp_layer.CSPNeXtBlock": _BOTTLENECK,
    "mmpose.models.utils.csp_layer.DarknetBottleneck": _BOTTLENECK,
    "mmpretrain.models.backbones.cspnet.DarknetBottleneck": Family(_two, join=_drop_and_add),
}

_NAMED = layer_chain(named_layers("layers"))

SPLITS: dict[str, Split] = {
    "mmdet.models.backbones.csp_darknet.CSPDarknet": _NAMED,
    "mmdet.models.backbones.cspnext.CSPNeXt": _NAMED,
    "mmdet.models.backbones.darknet.Darknet": layer_chain(named_layers("cr_blocks")),
    "mmpose.models.backbones.csp_darknet.CSPDarknet": _NAMED,
    "mmpose.models.backbones.cspnext.CSPNeXt": _NAMED,
    "mmpretrain.models.backbones.cspnet.CSPNet": layer_chain(listed_layers("stages"), in_turn("stem")),
}
