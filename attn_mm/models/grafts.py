"""What can be grafted onto a built backbone, by the name that a config gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.graft.blocks import FeedbackMixin, TopDown, attend
from attn_mm.graft.numbers import check_whole
from attn_mm.graft.selection import select_blocks, select_convs
from attn_mm.graft.starts import OwnStart
from attn_mm.graft.swap import as_torch, swap_class
from attn_mm.graft.units import Unit, find_family
from attn_mm.layers import AWConv2d, AWConv3d, TopDownAttention
from attn_mm.models.layers import CONVS, GATES
from attn_mm.registry import GRAFTS

Stages = Sequence[int] | None
Blocks = Sequence[Literal["all"] | Sequence[int]] | None

FILLED_IN = ("channels", "in_channels", "dims")
"""Parameters of a layer that follow from where it stands."""


@GRAFTS.register_module(name="AWConv")
def aw_conv(
    backbone: nn.Module,
    convs: Sequence[str] = ("conv2",),
    stages: Stages = None,
    blocks: Blocks = None,
    reduction: int = 16,
    reduce_c1: int | None = None,
    reduce_c2: int = 1,
    reduce_hw: int = 1,
    start: float = 0.5,
) -> list[nn.Module]:
    """Turn convolutions into AW-convolutions; their weights and their names stay.

    Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
    (https://arxiv.org/abs/2108.08205). The default is the paper's AW-ResNet: every
    bottleneck's 3x3.

    Args:
        backbone: a built backbone.
        convs, stages, blocks: see :func:`attn_mm.graft.selection.select_convs`.
        reduction, reduce_c1, reduce_c2, reduce_hw: see :class:`attn_mm.layers.AWConv2d`.
        start: the attention's typical value at the start. 1/2 is the paper's, and multiplies
            pretrained weights by 3/2; near 0 they keep their scale, which a network needs that has no
            norms or keeps their statistics.

    Returns:
        The new modules.

    Raises:
        ValueError: there is no such convolution, or ``start`` is not between 0 and 1.
        TypeError: a named convolution is not torch's own (deformable, factorised, an AW-convolution).
    """
    if not isinstance(start, float) or not 0 < start < 1:
        raise ValueError(f"start must lie between 0 and 1, got {start!r}")
    ratios = dict(reduction=reduction, reduce_c1=reduce_c1, reduce_c2=reduce_c2, reduce_hw=reduce_hw)
    names = {module: name for name, module in backbone.named_modules()}
    new = []
    for plain in map(as_torch, select_convs(backbone, convs, stages, blocks)):
        conv = (AWConv3d if isinstance(plain, nn.Conv3d) else AWConv2d).from_conv(plain, **ratios)
        parent, _, attribute = names[plain].rpartition(".")
        setattr(backbone.get_submodule(parent), attribute, conv)
        new.append(conv.attention)
    if start != 0.5:
        if not hasattr(backbone, "aw_starts"):
            backbone.aw_starts = AWStarts()
        backbone.aw_starts.add(new, start)
    return new


class AWStarts(OwnStart):
    """What attentions start at."""

    def __init__(self) -> None:
        super().__init__()
        # No ModuleList: the attentions have their names in the backbone already.
        self.starts: list[tuple[nn.Module, float]] = []

    def add(self, attentions: list[nn.Module], start: float) -> None:
        self.starts += [(attention, start) for attention in attentions]
        self.init_weights()

    def start(self) -> None:
        for attention, start in self.starts:
            nn.init.constant_(attention.norm2.bias, math.log(start / (1 - start)))


def layer_class(kind: str | type, or_graft: bool = True) -> type[nn.Module]:
    """The layer that a ``type`` names; a name without a scope is the framework's.

    Args:
        kind: the name, or the class itself.
        or_graft: whether the name of a graft would do as well, which is for the error's text.

    Raises:
        ValueError: it names nothing, or a convolution.
    """
    cls = kind
    if isinstance(kind, str):
        with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
            cls = registry.get(kind)
    if not isinstance(cls, type):
        names = [*(GRAFTS.module_dict if or_graft else ()), *(gate.__name__ for gate in GATES)]
        ours = ", ".join(f"attn_mm.{name}" for name in names)
        raise ValueError(f"no {'graft or ' * or_graft}layer has this name; those of attn_mm are {ours}")
    if cls in CONVS:
        way_out = "the graft attn_mm.AWConv, or " * or_graft
        raise ValueError(f"a convolution is no layer to put between others: use {way_out}conv_cfg")
    return cls


def put_layer(
    backbone: nn.Module,
    layer: type[nn.Module],
    position: str = "last",
    stages: Stages = None,
    blocks: Blocks = None,
    **options,
) -> list[nn.Module]:
    """Put a layer, ``(N, C, *size)`` in and out, behind a unit of each block.

    A layer behind the last unit stands before the sum with the shortcut; one
    behind another unit stands after its activation. A block's own plugins come
    first, and layers of one position follow each other in the order of the grafts.

    Args:
        backbone: a built backbone.
        layer: any layer that takes ``in_channels=``, as mmcv's plugins do.
        position: ``'after_conv2'`` and so on by the unit's name, ``'last'``, or ``'se'``: in
            place of the block's own SE, in those blocks that have one.
        stages, blocks: see :func:`attn_mm.graft.selection.select_blocks`.
        options: the layer's own.

    Returns:
        The new modules.

    Raises:
        ValueError: a block has no such position, or no selected block has an SE.
        TypeError: an option that the layer doesn't have.
    """
    selected = select_blocks(backbone, stages, blocks)
    if position == "se":
        selected = [block for block in selected if getattr(block, "with_se", False)]
        if not selected:
            raise ValueError(
                f"position 'se' needs blocks with an SE; {type(backbone).__name__} has none there"
            )

    def build(unit: Unit) -> nn.Module:
        # Layers of others know nothing of dims: theirs come as one class a dimension.
        dims = dict(dims=unit.dims) if layer in GATES else {}
        return layer(in_channels=unit.out_channels, **dims, **options)

    return [_put(block, position, build) for block in selected]


def _put(block: nn.Module, position: str, build: Callable[[Unit], nn.Module]) -> nn.Module:
    units = find_family(block).units(block)
    if position == "se":
        block.se = build(next(unit for unit in units if unit.then))
        block.se_is_grafted = True
        return block.se
    named = {"last": units[-1], **{f"after_{unit.name}": unit for unit in units}}
    if position not in named:
        raise ValueError(
            f"position must be of {', '.join(named)}, which {type(block).__name__} has, got {position!r}"
        )
    unit = named[position]
    new = build(unit)
    attend(block)
    if unit.name not in block.attn:
        block.attn[unit.name] = nn.Sequential()
    block.attn[unit.name].append(new)
    return new


@GRAFTS.register_module(name="TD")
def top_down(
    backbone: nn.Module,
    mode: Literal["joint", "top"] = "joint",
    steps: int = 2,
    distance: int = 1,
    stages: Stages = (-2, -1),
    blocks: Blocks = None,
    reduction: int = 16,
    hidden: Literal["code", "paper"] = "code",
    spatial: Literal["raw", "sigmoid"] = "raw",
) -> list[nn.Module]:
    """Top-down feedback inside residual blocks.

    Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided
    Feature Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, there first
    as TDAN: Top-Down Attention Networks). The last ``distance`` units run ``steps``
    times with the same convolutions and norms of their own for each step, each time on
    an input that the branch's output has modulated. The shortcut is of the block's own
    input. In a MobileNetV3 block the feedback takes the place of the SE: the paper
    replaces it, and doesn't say where exactly.

    Args:
        backbone: a built backbone.
        steps: t of the paper, at least 2.
        distance: m of the paper: 1 re-runs the last unit, 2 the last two, 3 the last three.
            0 re-runs nothing and modulates the branch's output; the paper has this ablation
            (figure 7) without its formula.
        stages, blocks: see :func:`attn_mm.graft.selection.select_blocks`. The default is the
            ResNets' of the paper; its MobileNetV3 has the last three blocks, ``(-3, -2, -1)``.
        mode, reduction, hidden, spatial: see :class:`attn_mm.layers.TopDownAttention`.

    Returns:
        The new modules.

    Raises:
        ValueError: ``steps`` is below 2, a block has fewer units than ``distance``, has feedback
            already, or its SE has been replaced.
    """
    check_whole("steps", steps, 2, why=" (one step is the plain block)")
    options = dict(mode=mode, reduction=reduction, hidden=hidden, spatial=spatial)
    return [_feed_back(block, steps, distance, options) for block in select_blocks(backbone, stages, blocks)]


def _feed_back(block: nn.Module, steps: int, distance: int, options: dict) -> nn.Module:
    name = type(block).__name__
    if isinstance(block, FeedbackMixin):
        raise ValueError(f"{name} has feedback already; grafts of TD must not name a block twice")
    units = find_family(block).units(block)
    has = f" ({name} has the units {', '.join(unit.name for unit in units)})"
    check_whole("distance", distance, 0, len(units), why=has)
    if getattr(block, "with_se", False):
        if getattr(block, "se_is_grafted", False):
            raise ValueError("feedback takes the place of the SE, where another graft stands already")
        del block.se
        block.with_se = False
        units = find_family(block).units(block)
    as_torch(units[-1].conv)
    rerun = units[len(units) - distance :]
    top = units[-1].out_channels
    bottom = rerun[0].in_channels if rerun else top
    attention = TopDownAttention(bottom, top, dims=units[-1].dims, **options)
    attend(block)
    block.td = TopDown(attention, rerun, steps)
    swap_class(block, FeedbackMixin)
    return block.td.attention
