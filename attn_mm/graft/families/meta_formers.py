"""Networks whose blocks mix positions by other means, and channels by convolutions: the second half is known.

A block of these is the part with the convolutions, which the network calls by itself: VAN's and PoolFormer's
``mlp``, for example. What the network adds and scales around it stays.
"""

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
)


def _mlp(block: Any) -> list[Unit]:
    return [
        Unit("fc1", block.fc1, None, block.act, (block.drop,)),
        Unit("fc2", block.fc2, None, None, (block.drop,)),
    ]


def _mlp_with_norms(block: Any) -> list[Unit]:
    return [
        Unit("fc1", block.fc1, block.norm1, block.act, (block.drop,)),
        Unit("fc2", block.fc2, block.norm2, None, (block.drop,)),
    ]


def _van(block: Any) -> list[Unit]:
    return [
        Unit("fc1", block.fc1, None, None),
        Unit("depthwise", block.dwconv, None, block.act, (block.drop,)),
        Unit("fc2", block.fc2, None, None, (block.drop,)),
    ]


def _vig(block: Any) -> list[Unit]:
    return [
        Unit("fc1", block.fc1[0], block.fc1[1], block.act),
        Unit("fc2", block.fc2[0], block.fc2[1], None),
    ]


def _rep_mlp(block: Any) -> list[Unit]:
    return [
        from_conv_module("fc1", block.ffn_fc1, (block.act,)),
        from_conv_module("fc2", block.ffn_fc2),
    ]


FAMILIES: dict[str, Family] = {
    "mmaction.models.backbones.uniformer.CMlp": Family(_mlp),
    "mmpretrain.models.backbones.efficientformer.ConvMlp": Family(_mlp_with_norms),
    "mmpretrain.models.backbones.poolformer.Mlp": Family(_mlp),
    "mmpretrain.models.backbones.repmlp.ConvFFN": Family(_rep_mlp),
    "mmpretrain.models.backbones.van.MixFFN": Family(_van),
    "mmpretrain.models.backbones.vig.FFN": Family(_vig, input_as_shortcut),
}


def _normalized(backbone: Any, index: int, x: Tensor) -> Tensor:
    return getattr(backbone, f"norm{index}")(x)


# VAN normalizes what a stage gives as tokens.
def _van_stage(backbone: Any, number: int, x: Tensor) -> Tensor:
    x, size = getattr(backbone, f"patch_embed{number}")(x)
    for block in getattr(backbone, f"blocks{number}"):
        x = block(x)
    tokens = getattr(backbone, f"norm{number}")(x.flatten(2).transpose(1, 2))
    return tokens.unflatten(1, size).permute(0, 3, 1, 2).contiguous()


def _van_stages(backbone: Any) -> list[Stage]:
    return [partial(_van_stage, backbone, number) for number in range(1, backbone.num_stages + 1)]


def _van_indices(backbone: Any) -> range:
    return range(backbone.num_stages)


def _uniformer_layers(backbone: Any) -> list[list[Stage]]:
    numbers = range(1, 5)
    layers = [[getattr(backbone, f"patch_embed{n}"), *getattr(backbone, f"blocks{n}")] for n in numbers]
    layers[0].insert(1, backbone.pos_drop)
    return layers


def _last_norm(backbone: Any, index: int, x: Tensor) -> Tensor:
    return backbone.norm(x)


_POOLFORMER = layer_chain(listed_layers("network"), in_turn("patch_embed"), give=_normalized)

SPLITS: dict[str, Split] = {
    "mmaction.models.backbones.uniformer.UniFormer": layer_chain(
        _uniformer_layers, outs=last_layer, give=_last_norm, bare=True
    ),
    "mmpretrain.models.backbones.poolformer.PoolFormer": _POOLFORMER,
    "mmpretrain.models.backbones.riformer.RIFormer": _POOLFORMER,
    "mmpretrain.models.backbones.van.VAN": Split(_van_stages, _van_indices),
}
