"""The graft AWConv: attention on the weights of a network's convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from attn_mm.graft.behind import refuse_merged
from attn_mm.graft.hidden import add_child
from attn_mm.graft.own_init import OwnStart
from attn_mm.graft.probe import CannotRun, look_at_outputs
from attn_mm.graft.selection import select_convs
from attn_mm.graft.swap import as_torch
from attn_mm.layers import AWConv2d, AWConv3d
from attn_mm.layers.aw_attention import AWAttention
from attn_mm.models.grafts.layer import Blocks, Stages
from attn_mm.models.grafts.turns import Turn, graft


@graft("AWConv", Turn.CONVOLUTIONS)
def aw_conv(
    backbone: Any,
    convs: str | Sequence[str] | None = None,
    stages: Stages = None,
    blocks: Blocks = None,
    reduction: int = 16,
    reduce_c1: int | None = None,
    reduce_c2: int = 1,
    reduce_hw: int = 1,
    start: float = 0.5,
    identity: bool = True,
) -> list[nn.Module]:
    """Turn convolutions into AW-convolutions that keep their weights and names.

    Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
    (https://arxiv.org/abs/2108.08205). The default on a ResNet is the paper's AW-ResNet: the 3x3
    convolution of every bottleneck.

    Args:
        backbone: a built backbone.
        convs, stages, blocks: see :func:`attn_mm.graft.selection.select_convs`.
        reduction, reduce_c1, reduce_c2, reduce_hw: see :class:`attn_mm.layers.AWConv2d`.
        start: typical initial value of the attention. The paper's 1/2 multiplies pretrained
            weights by 3/2. A value near 0 keeps their scale: use that for a network without norms, or
            with frozen statistics. Without ``identity``, a value near 1 keeps it.
        identity: whether the weights are K + A * K, the paper's choice, or A * K alone.

    Returns:
        The new modules.

    Raises:
        ValueError: there is no such convolution, ``start`` is not between 0 and 1, or ``identity`` is neither
            True nor False.
        TypeError: a selected convolution is not a plain torch one (deformable, factorised, AW).
        ValueError: a selected convolution doesn't run by itself.
    """
    if not isinstance(start, float) or not 0 < start < 1:
        raise ValueError(f"start must be a float between 0 and 1, got {start!r}")
    ratios: dict[str, Any] = dict(
        reduction=reduction, reduce_c1=reduce_c1, reduce_c2=reduce_c2, reduce_hw=reduce_hw, identity=identity
    )
    names = {module: name for name, module in backbone.named_modules()}
    selected = select_convs(backbone, convs, stages, blocks)
    _check_run(backbone, {names[conv]: conv for conv in selected})
    everywhere: dict[nn.Module, list[str]] = {}
    for name, module in backbone.named_modules(remove_duplicate=False):
        everywhere.setdefault(module, []).append(name)
    new = []
    for plain in map(as_torch, selected):
        conv = (AWConv3d if isinstance(plain, nn.Conv3d) else AWConv2d).from_conv(plain, **ratios)
        for name in everywhere[plain]:
            parent, _, attribute = name.rpartition(".")
            setattr(backbone.get_submodule(parent), attribute, conv)
        new.append(conv.attention)
    if start != 0.5:
        starts = next((child for child in backbone.children() if isinstance(child, AWStarts)), None)
        if starts is None:
            starts = AWStarts()
            add_child(backbone, "aw_starts", starts)
        starts.add(new, start)
    return new


def _check_run(backbone: nn.Module, convs: dict[str, nn.Module]) -> None:
    """Raise ValueError if a convolution of ``backbone`` doesn't run: some networks read the weights alone."""
    for name in convs:
        refuse_merged(backbone, "convs", name)
    try:
        ran = look_at_outputs(backbone, convs.values())
    except CannotRun:
        return
    for name, conv in convs.items():
        if conv not in ran:
            raise ValueError(f"convs: {name} ({type(conv).__name__}) doesn't run by itself: leave it out")


class AWStarts(OwnStart):
    """Set the initial values of attentions after the backbone's own initialization."""

    def __init__(self) -> None:
        super().__init__()
        # No ModuleList: the attentions already have names in the backbone.
        self.starts: list[tuple[AWAttention, float]] = []

    def add(self, attentions: list[AWAttention], start: float) -> None:
        self.starts += [(attention, start) for attention in attentions]
        self.init_weights()

    def start(self) -> None:
        for attention, start in self.starts:
            nn.init.constant_(attention.norm2.bias, math.log(start / (1 - start)))
