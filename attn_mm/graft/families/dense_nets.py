"""DenseNet: every layer reads the maps of all layers before it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_mm.graft.families.family import Family, Split, Stage, Unit, in_turn, layer_chain, listed_layers


def _layer(block: Any) -> list[Unit]:
    drop = (partial(_drop, block),) if block.drop_rate > 0 else ()
    return [
        Unit(
            "conv1", block.conv1, block.norm1, block.act, whole=partial(_bottleneck, block), norm_first=True
        ),
        Unit("conv2", block.conv2, block.norm2, block.act, drop, norm_first=True),
    ]


def _bottleneck(block: Any, x: Any) -> Tensor:
    """Run the first unit on a map, or on the list of maps that the layer gets."""
    maps = [x] if isinstance(x, Tensor) else x
    if block.memory_efficient and block.any_requires_grad(maps):
        return block.call_checkpoint_bottleneck(maps)
    return block.bottleneck_fn(maps)


def concatenated(block: Any, x: Any) -> Tensor:
    """The map that a layer reads, of one or of the list of all before it."""
    return x if isinstance(x, Tensor) else torch.cat(x, 1)


def _drop(block: Any, x: Tensor) -> Tensor:
    return F.dropout(x, block.drop_rate, block.training)


FAMILIES: dict[str, Family] = {
    "mmpretrain.models.backbones.densenet.DenseLayer": Family(_layer, enter=concatenated),
}


def _dense_layers(backbone: Any) -> list[list[Stage]]:
    if any(getattr(module, "memory_efficient", False) for module in backbone.modules()):
        raise ValueError("memory_efficient=True runs norms again outside their flow: set it to False")
    return listed_layers("stages", "transitions")(backbone)


SPLITS: dict[str, Split] = {
    "mmpretrain.models.backbones.densenet.DenseNet": layer_chain(_dense_layers, in_turn("stem")),
}
