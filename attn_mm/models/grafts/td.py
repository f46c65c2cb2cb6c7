"""The graft TD: top-down feedback inside residual blocks."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from attn_mm.graft.blocks import FeedbackMixin, TopDown, attend
from attn_mm.graft.options import check_whole
from attn_mm.graft.selection import select_blocks, stage_blocks
from attn_mm.graft.swap import as_torch, swap_class
from attn_mm.graft.units import family_of, record_of_block
from attn_mm.layers import TopDownAttention
from attn_mm.models.grafts.layer import Blocks, Stages
from attn_mm.models.grafts.turns import Turn, graft

_LAST_TWO = (-2, -1)


@graft("TD", Turn.BLOCKS)
def top_down(
    backbone: nn.Module,
    mode: Literal["joint", "top"] = "joint",
    steps: int = 2,
    distance: int = 1,
    stages: Stages = _LAST_TWO,
    blocks: Blocks = None,
    reduction: int = 16,
    hidden: Literal["code", "paper"] = "code",
    spatial: Literal["raw", "sigmoid"] = "raw",
) -> list[nn.Module]:
    """Add top-down feedback inside residual blocks.

    Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided
    Feature Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, there first
    as TDAN: Top-Down Attention Networks). The last ``distance`` units of a block run
    ``steps`` times with shared convolutions but separate batch norms for each step; layer and group
    norms are shared. From the second time on, the branch's previous output modulates their
    input. The shortcut uses the block's own input. In a MobileNetV3 block the feedback replaces the SE, as
    in the paper, which doesn't specify where exactly. In a ConvNeXt block ``distance=1`` re-runs the second
    pointwise layer and ``distance=2`` both, as in the authors' later code.

    Args:
        backbone: a built backbone.
        steps: t in the paper, at least 2.
        distance: m in the paper: 1 re-runs the last unit, 2 the last two, 3 the last three.
            0 re-runs nothing and modulates the branch's output; the paper shows this ablation
            (figure 7) but gives no formula.
        stages, blocks: see :func:`attn_mm.graft.selection.select_blocks`. The default fits the
            paper's ResNets; its MobileNetV3 uses the last three blocks, ``(-3, -2, -1)``.
        mode, reduction, hidden, spatial: see :class:`attn_mm.layers.TopDownAttention`.

    Returns:
        The new modules.

    Raises:
        ValueError: ``steps`` is below 2; a block has fewer units than ``distance``, already has
            feedback, or another graft has replaced its SE.
    """
    check_whole("steps", steps, 2, why=" (one step is the plain block)")
    options: dict[str, Any] = dict(mode=mode, reduction=reduction, hidden=hidden, spatial=spatial)
    if stages is _LAST_TWO:
        # A network may have but one.
        stages = _LAST_TWO[-len(stage_blocks(backbone)) :]
    return [_feed_back(block, steps, distance, options) for block in select_blocks(backbone, stages, blocks)]


def _feed_back(block: Any, steps: int, distance: int, options: dict) -> nn.Module:
    name = type(block).__name__
    if isinstance(block, FeedbackMixin):
        raise ValueError(f"{name} already has feedback: TD grafts must not select a block twice")
    units = family_of(block).units(block)
    has = f" ({name} has the units {', '.join(unit.name for unit in units)})"
    check_whole("distance", distance, 0, len(units), why=has)
    if getattr(block, "with_se", False):
        if record_of_block(block).se_is_grafted:
            raise ValueError(
                "TD replaces the block's SE, but another graft has already replaced it: remove one of them"
            )
        del block.se
        block.with_se = False
        units = family_of(block).units(block)
    rerun = units[len(units) - distance :]
    for unit in rerun:
        as_torch(unit.conv)
        if unit.parts:
            raise ValueError(
                f"distance={distance} would run {unit.name} of {name} again, which has several convolutions: "
                f"use distance={len(units) - units.index(unit) - 1}"
            )
    top = units[-1].out_channels
    bottom = rerun[0].in_channels if rerun else top
    attention = TopDownAttention(bottom, top, dims=units[-1].dims, **options)
    attend(block)
    block.td = TopDown(attention, rerun, steps)
    swap_class(block, FeedbackMixin)
    return block.td.attention
