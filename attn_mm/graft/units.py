"""Recognise a residual block, to run it as a list of units: a convolution and what follows it.

A graft replaces a block's forward, so it must know what that forward does. It
recognises a block by the class that defines its ``forward``, see :mod:`attn_mm.graft.families`.
The block keeps its names, plugins, drop path and shortcut.

A VGG has no blocks, only a sequence of convolutions: :func:`plain_convs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any

from torch import nn

from attn_mm.graft.families import FAMILIES
from attn_mm.graft.families.family import Family


@dataclass
class GraftedBlock:
    """What grafts have done to a block: ``block.attn_mm``.

    Attributes:
        family: found by the block's forward before a graft replaced it.
        last_unit: name of the unit at the branch's end; empty where the block runs as before.
        layers: name of the layers behind units; it is another in blocks that have an ``attn`` of their own.
        se_is_grafted: whether a graft's layer is in the place of the block's SE.
    """

    family: Family
    last_unit: str = ""
    layers: str = "attn"
    se_is_grafted: bool = False


def forward_owner(module: nn.Module) -> str:
    """The full name of the class that defines ``module``'s forward."""
    cls = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return f"{cls.__module__}.{cls.__qualname__}"


def other_forwards(module: nn.Module) -> list[str]:
    """Further forwards of ``module``: those of the classes derived from the one that defines ``forward``.

    A graft that replaces the forward does not reach them. A class's own helpers of its forward don't count.
    """
    derived = takewhile(lambda cls: "forward" not in vars(cls), type(module).__mro__)
    names = chain.from_iterable(map(vars, derived))
    return [name for name in names if name.endswith("_forward") or name.startswith("forward_")]


def find_family(block: nn.Module) -> Family | None:
    """Find the family of ``block``; None if its forward is not known."""
    record = getattr(block, "attn_mm", None)
    return record.family if isinstance(record, GraftedBlock) else FAMILIES.get(forward_owner(block))


def family_of(block: nn.Module) -> Family:
    """The family of ``block``, one of those that :func:`attn_mm.graft.selection.stage_blocks` gives."""
    family = find_family(block)
    assert family is not None, f"{type(block).__name__} is a block of no known family"
    return family


def record_of_block(block: Any) -> GraftedBlock:
    """The record of ``block``, for a graft to write in; one is put on it where it has none."""
    record = getattr(block, "attn_mm", None)
    if not isinstance(record, GraftedBlock):
        record = block.attn_mm = GraftedBlock(family_of(block))
    return record


def plain_convs(backbone: nn.Module) -> list[dict[str, nn.Module]]:
    """The convolutions in ``backbone.features`` by name, a dict for each group between two pools.

    They are named as those of VGG are: ``conv1_1`` to ``conv5_3``; ``conv6_1`` and ``conv6_2`` are what SSD's
    paper calls conv6 and conv7. The list is empty where ``features`` is no sequence of layers.
    """
    features = getattr(backbone, "features", None)
    groups: list[list[nn.Module]] = [[]]
    for layer in features if isinstance(features, nn.Sequential) else ():
        conv = getattr(layer, "conv", layer)  # of a ConvModule
        if isinstance(layer, nn.MaxPool2d):
            groups.append([])
        elif isinstance(conv, nn.Conv2d):
            groups[-1].append(conv)
    return [
        {f"conv{i}_{j}": conv for j, conv in enumerate(group, 1)}
        for i, group in enumerate(filter(None, groups), 1)
    ]
