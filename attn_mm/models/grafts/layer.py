"""The graft that inserts a layer, such as ``attn_mm.SE``, into a network at the places that it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from attn_mm.graft.behind import Build, put_behind_modules, put_behind_outputs
from attn_mm.graft.blocks import attend
from attn_mm.graft.families.family import Unit
from attn_mm.graft.selection import select_blocks
from attn_mm.graft.units import family_of, record_of_block
from attn_mm.models.grafts.turns import GRAFTS
from attn_mm.models.layers import CONVS, FOREIGN, PLUGINS

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
    cls = _named_class(kind) if isinstance(kind, str) else kind
    if not isinstance(cls, type):
        names = [*(GRAFTS if or_graft else ()), *(layer.__name__ for layer in (*PLUGINS, *FOREIGN))]
        ours = ", ".join(f"attn_mm.{name}" for name in names)
        raise ValueError(f"no {'graft or ' * or_graft}layer has this name; attn_mm has {ours}")
    if cls in CONVS:
        way_out = "the graft attn_mm.AWConv, or " * or_graft
        raise ValueError(f"a convolution can't be inserted as a layer: use {way_out}conv_cfg")
    return cls


def _named_class(name: str) -> Any:
    own = {f"attn_mm.{layer.__name__}": layer for layer in (*PLUGINS, *FOREIGN, *CONVS)}
    if name in own:
        return own[name]
    # Networks without OpenMMLab never come here with a name that exists.
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(name)


def put_layer(
    backbone: nn.Module,
    layer: type[nn.Module],
    position: str | None = None,
    stages: Stages = None,
    blocks: Blocks = None,
    outputs: Sequence[int | str] | Literal["all"] | None = None,
    after: str | Sequence[str] | None = None,
    **options,
) -> list[nn.Module]:
    """Insert a layer, ``(N, C, *size)`` in and out, at the places that one of three ways names.

    - ``position``, with ``stages`` and ``blocks``: after a unit of each block, where the blocks
      are known. A layer after the last unit runs before the shortcut is added. A layer after
      another unit runs after that unit's activation. A block's own plugins run first.
    - ``outputs``: behind the maps that the backbone returns. Its next stages don't see the result.
    - ``after``: behind any module, in any network. What follows sees the result.

    Several layers at one place run in the order of the grafts.

    Args:
        backbone: a built backbone.
        layer: any layer that accepts ``in_channels=``, as mmcv's plugins do.
        position: ``'after_conv2'`` and so on by the unit's name, ``'last'`` (the default), or ``'se'`` to
            replace the block's own SE, in those blocks that have one.
        stages, blocks: see :func:`attn_mm.graft.selection.select_blocks`.
        outputs: as the backbone's ``out_indices`` call them, or ``'all'``; see
            :func:`attn_mm.graft.behind.put_behind_outputs`.
        after: patterns over module names, such as ``'layer*.*.conv2'``; see
            :func:`attn_mm.graft.behind.put_behind_modules`.
        options: options of the layer.

    Returns:
        The new modules.

    Raises:
        ValueError: there is no such place, or places are named in more than one way.
        TypeError: the layer doesn't have an option.
    """

    def build(channels: int, dims: int) -> nn.Module:
        # Other layers have no dims option: they have one class per number of dimensions.
        own = dict(dims=dims) if layer in PLUGINS else {}
        return layer(in_channels=channels, **own, **options)

    by_block: list[Any] = [position, stages, blocks]
    ways = {"position, stages and blocks": by_block, "outputs": [outputs], "after": [after]}
    named = [way for way, values in ways.items() if any(value is not None for value in values)]
    if len(named) > 1:
        raise ValueError(f"a layer's places are named in one way, got {' and '.join(named)}")
    if outputs is not None:
        return put_behind_outputs(backbone, outputs, build)
    if after is not None:
        return put_behind_modules(backbone, after, build)
    selected = select_blocks(backbone, stages, blocks)
    if position == "se":
        selected = [block for block in selected if getattr(block, "with_se", False)]
        if not selected:
            raise ValueError(
                f"position='se' requires blocks with an SE, but those selected of "
                f"{type(backbone).__name__} have none"
            )
    return [_put(block, "last" if position is None else position, build) for block in selected]


def _put(block: Any, position: str, build: Build) -> nn.Module:
    units = family_of(block).units(block)
    if position == "se":
        block.se = _built_for(next(unit for unit in units if unit.then), build)
        record_of_block(block).se_is_grafted = True
        return block.se
    named = {"last": units[-1], **{f"after_{unit.name}": unit for unit in units}}
    if position not in named:
        raise ValueError(
            f"position must be one of {', '.join(named)} in {type(block).__name__}, got {position!r}"
        )
    unit = named[position]
    new = _built_for(unit, build)
    attend(block)
    if unit.name not in block.attended:
        block.attended[unit.name] = nn.Sequential()
    block.attended[unit.name].append(new)
    return new


def _built_for(unit: Unit, build: Build) -> nn.Module:
    return build(unit.out_channels, unit.dims)
