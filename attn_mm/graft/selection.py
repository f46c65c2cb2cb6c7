"""Which blocks of a built backbone a graft goes into, in the words of a config."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from attn_mm.graft.units import Unit, find_family, forward_owner


def stage_blocks(backbone: nn.Module) -> list[list[nn.Module]]:
    """The residual blocks of every stage: of ``layer1``, ``layer2`` and so on.

    A MobileNet's layers count as stages too; its plain convolutions are none.

    Raises:
        TypeError: there are no stages, or a block's forward is of none of the known families.
    """
    names = getattr(backbone, "res_layers", None) or getattr(backbone, "layers", ())
    stages = [_blocks(getattr(backbone, name)) for name in names]
    stages = [stage for stage in stages if stage]
    if not stages:
        raise TypeError(f"{type(backbone).__name__} has no residual blocks to graft onto")
    for stage in stages:
        for block in stage:
            if find_family(block) is None:
                raise TypeError(
                    f"{type(backbone).__name__}'s {type(block).__name__} can't be grafted onto: "
                    f"its forward is {forward_owner(block)}'s, not one of the plain residual blocks'"
                )
    return stages


def _blocks(layer: nn.Module) -> list[nn.Module]:
    if isinstance(layer, nn.Sequential):
        return list(layer)
    return [layer] if find_family(layer) else []


def select_blocks(
    backbone: nn.Module,
    stages: Sequence[int] | None = None,
    blocks: Sequence[str | Sequence[int]] | None = None,
) -> list[nn.Module]:
    """The blocks that ``stages`` and ``blocks`` name.

    Args:
        backbone: a built backbone.
        stages: stages from 0, or backwards from -1; None is all of them.
        blocks: for each of ``stages``, ``'all'`` or the blocks' places in it, from 0; None is all.

    Raises:
        ValueError: there is no such stage or block, or ``blocks`` has not one entry a stage.
        TypeError: see :func:`stage_blocks`.
    """
    found = stage_blocks(backbone)
    has = (
        f"{type(backbone).__name__} has {len(found)} stages of {', '.join(str(len(s)) for s in found)} blocks"
    )
    stages = range(len(found)) if stages is None else stages
    if isinstance(stages, int) or not set(stages) <= set(range(-len(found), len(found))):
        raise ValueError(
            f"stages must be places of stages, from 0, or from -1 backwards, got {stages!r}: {has}"
        )
    blocks = ["all"] * len(stages) if blocks is None else blocks
    if isinstance(blocks, str) or len(blocks) != len(stages):
        raise ValueError(
            f"blocks must have one entry for each of the {len(stages)} stages, 'all' or places from 0, "
            f"got {blocks!r}"
        )
    chosen = []
    for stage, places in zip(stages, blocks):
        places = range(len(found[stage])) if places == "all" else places
        if isinstance(places, str | int) or not set(places) <= set(range(len(found[stage]))):
            raise ValueError(f"stage {stage} has no blocks {places!r}: {has}")
        chosen += [found[stage][place] for place in places]
    return chosen


def describe_units(units: Sequence[Unit]) -> str:
    """'conv1, conv2, conv3': the names that a config may use."""
    return ", ".join(unit.name for unit in units)
