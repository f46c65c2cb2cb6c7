"""Try which grafts fit a network."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.behind import is_map
from attn_mm.graft.places import place_names
from attn_mm.graft.probe import CannotRun, look_at_outputs
from attn_mm.models.grafting import graft_onto

COLUMNS = ("outputs", "after", "position", "AWConv", "TD", "TDAF")
"""What is tried: a layer at each kind of place, and the other grafts with their defaults."""


def what_fits(net: nn.Module, after: str | None = None) -> dict[str, str]:
    """Try each graft on a copy of ``net``.

    Args:
        net: the network, best on the meta device.
        after: pattern over the names of modules behind which a layer is put; None for the last convolution
            that gives a map.

    Returns:
        The reason of a refusal by what is tried, see :data:`COLUMNS`; empty where the graft fits.
    """
    layer: dict[str, Any] = dict(type="attn_mm.ECA")
    grafts = {
        "outputs": dict(layer, outputs="all"),
        "after": dict(layer, after=_last_map(net) if after is None else after),
        "position": layer,
        **{name: dict(type=f"attn_mm.{name}") for name in ("AWConv", "TD", "TDAF")},
    }
    return {name: _refusal(net, graft) for name, graft in grafts.items()}


def _refusal(net: nn.Module, graft: dict) -> str:
    try:
        graft_onto(copy.deepcopy(net), [graft])
    except ConfigError as error:
        return str(error)
    return ""


def _last_map(net: nn.Module) -> str:
    convs = {name: m for name, m in place_names(net).items() if isinstance(m, nn.Conv2d | nn.Conv3d)}
    try:
        outputs = look_at_outputs(net, convs.values())
    except CannotRun:
        outputs = {}
    maps = [name for name, conv in convs.items() if conv in outputs and all(map(is_map, outputs[conv]))]
    return next(reversed(maps or list(convs) or ["*"]))
