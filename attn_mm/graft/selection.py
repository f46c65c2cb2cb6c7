"""Which blocks of a built backbone a graft goes into, in the words of a config."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from attn_mm.graft.units import find_family, forward_owner


def stage_blocks(backbone: nn.Module) -> list[list[nn.Module]]:
    """The residual blocks of every stage: of ``layer1``, ``layer2`` and so on.

    A MobileNet's layers count as stages too; its plain convolutions are none.

    Raises:
        TypeError: there are no stages, or a block's forward is of none of the known families.
    """
    names = getattr(backbone, "res_layers", None) or getattr(backbone, "layers", ())
    stages = [_blocks(getattr(backbone, name)) for name in names if isinstance(name, str)]
    stages = [stage for stage in stages if stage]
    if not stages:
        children = ", ".join(name for name, _ in backbone.named_children())
        raise TypeError(f"{type(backbone).__name__} has no residual blocks to graft onto: it has {children}")
    for block in (block for stage in stages for block in stage):
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
        stages: places of stages, from 0, or backwards from -1; None is all of them.
        blocks: for each of ``stages``, ``'all'`` or places of blocks in it, likewise; None is all.

    Raises:
        ValueError: there is no such stage or block, one is named twice, or ``blocks`` has not
            one entry a stage.
        TypeError: see :func:`stage_blocks`.
    """
    found = stage_blocks(backbone)
    sizes = ", ".join(str(len(stage)) for stage in found)
    has = f"{type(backbone).__name__} has {len(found)} stages, of {sizes} blocks"
    stages = _places("stages", range(len(found)) if stages is None else stages, len(found), has)
    blocks = ["all"] * len(stages) if blocks is None else blocks
    if not isinstance(blocks, list | tuple) or len(blocks) != len(stages):
        raise ValueError(
            f"blocks must have one entry for each of the {len(stages)} stages, 'all' or places; "
            f"got {blocks!r}"
        )
    chosen = []
    for stage, places in zip(stages, blocks):
        size = len(found[stage])
        places = range(size) if places == "all" else places
        chosen += [found[stage][place] for place in _places(f"blocks of stage {stage}", places, size, has)]
    return chosen


def _places(name: str, places, count: int, has: str) -> list[int]:
    """``places`` counted from 0."""
    # True and False are whole numbers to Python, and flags to mmdet's plugins.
    if not isinstance(places, list | tuple | range) or any(type(place) is not int for place in places):
        raise ValueError(f"{name} must be places, such as (0, 1) or (-1,), got {places!r}: {has}")
    if not all(-count <= place < count for place in places):
        raise ValueError(f"{name} must lie in 0..{count - 1}, or in {-count}..-1, got {places!r}: {has}")
    positive = [place % count for place in places]
    if len(set(positive)) < len(positive):
        raise ValueError(f"{name} must each be named once, got {places!r}: {has}")
    return positive
