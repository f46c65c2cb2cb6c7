"""The graft that inserts a layer, such as ``attn_mm.SE``, after a unit of a backbone's blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.graft.blocks import attend
from attn_mm.graft.families.family import Unit
from attn_mm.graft.selection import select_blocks
from attn_mm.graft.units import family_of, record_of_block
from attn_mm.models.layers import CONVS, PLUGINS
from attn_mm.registry import GRAFTS

Stages = Sequence[int] | None
Blocks = Sequence[Literal["all"] | Sequence[int]] | None

FILLED_IN = ("channels", "in_channels", "dims")
"""Parameters of a layer that the graft sets according to the layer's position."""


def layer_class(kind: str | type, or_graft: bool = True) -> type[nn.Module]:
    """Find the layer class that a ``type`` names; a name without a scope is the framework's.

    Args:
        kind: the name, or the class itself.
        or_graft: whether the caller also accepts grafts, so that the error message lists them.

    Returns:
        The class.

    Raises:
        ValueError: there is no such layer, or it is a convolution.
    """
    cls = kind
    if isinstance(kind, str):
        with MMENGINE_MODELS.switch_scope_and_registry(None) as registry:
            cls = registry.get(kind)
    if not isinstance(cls, type):
        names = [*(GRAFTS.module_dict if or_graft else ()), *(gate.__name__ for gate in PLUGINS)]
        ours = ", ".join(f"attn_mm.{name}" for name in names)
        raise ValueError(f"no {'graft or ' * or_graft}layer has this name; attn_mm has {ours}")
    if cls in CONVS:
        way_out = "the graft attn_mm.AWConv, or " * or_graft
        raise ValueError(f"a convolution can't be inserted as a layer: use {way_out}conv_cfg")
    return cls


def put_layer(
    backbone: nn.Module,
    layer: type[nn.Module],
    position: str = "last",
    stages: Stages = None,
    blocks: Blocks = None,
    **options,
) -> list[nn.Module]:
    """Insert a layer, ``(N, C, *size)`` in and out, after a unit of each block.

    A layer after the last unit runs before the shortcut is added. A layer after
    another unit runs after that unit's activation. A block's own plugins run first;
    several layers at one position run in the order of the grafts.

    Args:
        backbone: a built backbone.
        layer: any layer that accepts ``in_channels=``, as mmcv's plugins do.
        position: ``'after_conv2'`` and so on by the unit's name, ``'last'``, or ``'se'`` to
            replace the block's own SE, in those blocks that have one.
        stages, blocks: see :func:`attn_mm.graft.selection.select_blocks`.
        options: options of the layer.

    Returns:
        The new modules.

    Raises:
        ValueError: a block has no such position, or no selected block has an SE.
        TypeError: the layer doesn't have an option.
    """
    selected = select_blocks(backbone, stages, blocks)
    if position == "se":
        selected = [block for block in selected if getattr(block, "with_se", False)]
        if not selected:
            raise ValueError(
                f"position='se' requires blocks with an SE, but those selected of "
                f"{type(backbone).__name__} have none"
            )

    def build(unit: Unit) -> nn.Module:
        # Other layers have no dims option: they have one class per number of dimensions.
        dims = dict(dims=unit.dims) if layer in PLUGINS else {}
        return layer(in_channels=unit.out_channels, **dims, **options)

    return [_put(block, position, build) for block in selected]


def _put(block: Any, position: str, build: Callable[[Unit], nn.Module]) -> nn.Module:
    units = family_of(block).units(block)
    if position == "se":
        block.se = build(next(unit for unit in units if unit.then))
        record_of_block(block).se_is_grafted = True
        return block.se
    named = {"last": units[-1], **{f"after_{unit.name}": unit for unit in units}}
    if position not in named:
        raise ValueError(
            f"position must be one of {', '.join(named)} in {type(block).__name__}, got {position!r}"
        )
    unit = named[position]
    new = build(unit)
    attend(block)
    if unit.name not in block.attn:
        block.attn[unit.name] = nn.Sequential()
    block.attn[unit.name].append(new)
    return new
