"""Select the blocks or convolutions of a built backbone that a graft changes, as a config names them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from textwrap import shorten
from typing import Any

from torch import nn

from attn_mm.graft.places import match_modules, place_names
from attn_mm.graft.probe import CannotRun, look_at_outputs
from attn_mm.graft.units import family_of, find_family, forward_owner, plain_convs

_FACTORISED = "mmaction.models.common.conv2plus1d.Conv2plus1d"


def stage_blocks(backbone: nn.Module) -> list[list[nn.Module]]:
    """List the blocks of every stage.

    The stages are what ``res_layers`` or ``layers`` of the backbone name. A network that has several of them
    side by side, such as SlowFast, has the blocks of all in each stage. In any other network the stages
    are the parts that differ first in the names of its blocks: ``layer1``, ``stage2`` and so on in an HRNet.
    Plain convolutions are no blocks.

    Raises:
        TypeError: there are no blocks, or a block belongs to no known family.
    """
    named = _named_stages(backbone)
    paths = [stages for child in backbone.children() if (stages := _named_stages(child))]
    if named:
        stages = named
    elif len(paths) > 1:
        stages = [list(chain.from_iterable(stage)) for stage in zip_longest(*paths, fillvalue=())]
    else:
        stages = _grouped_by_name(dict(_outermost_blocks(backbone)))
    if not stages:
        children = shorten(", ".join(name for name, _ in backbone.named_children()), 44, placeholder=" ...")
        raise TypeError(
            f"{type(backbone).__name__} has no residual blocks to graft onto: it has {children}; name places "
            "by outputs= or after=, for AWConv by convs="
        )
    return stages


def _named_stages(backbone: nn.Module) -> list[list[nn.Module]]:
    names: Any = getattr(backbone, "res_layers", None)
    of_blocks = names is not None
    if names is None:
        names = getattr(backbone, "layers", ())
    stages = []
    for name in names if isinstance(names, list | tuple) else ():
        if isinstance(name, str):
            layer = getattr(backbone, name)
            if of_blocks:
                _check_known(backbone, layer)
            stages.append([block for _, block in _outermost_blocks(layer)])
    return [stage for stage in stages if stage]


def _check_known(backbone: nn.Module, layer: nn.Module) -> None:
    """Raise TypeError if a block of a residual stage is of no known family."""
    for block in layer.children() if isinstance(layer, nn.Sequential) else [layer]:
        if not any(True for _ in _outermost_blocks(block)):
            raise TypeError(
                f"{type(backbone).__name__}'s {type(block).__name__} can't be grafted onto: "
                f"its forward is that of {forward_owner(block)}, not of a known residual block; use after="
            )


def _outermost_blocks(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The known blocks in ``module`` by their names, but for those inside of others."""
    if find_family(module) is not None:
        yield name, module
        return
    for part, child in module.named_children():
        yield from _outermost_blocks(child, f"{name}.{part}" if name else part)


def _grouped_by_name(blocks: dict[str, nn.Module]) -> list[list[nn.Module]]:
    paths = [name.split(".") for name in blocks]
    depth = next((d for d, parts in enumerate(zip(*paths)) if len(set(parts)) > 1), 0)
    groups: dict[str, list[nn.Module]] = {}
    for path, block in zip(paths, blocks.values()):
        groups.setdefault(path[depth], []).append(block)
    return list(groups.values())


def select_blocks(
    backbone: nn.Module,
    stages: Sequence[int] | None = None,
    blocks: Sequence[str | Sequence[int]] | None = None,
) -> list[nn.Module]:
    """Select the blocks that ``stages`` and ``blocks`` name.

    Args:
        backbone: a built backbone.
        stages: indices of stages, from 0, or from the end, from -1. None selects all.
        blocks: for each of ``stages``, ``'all'`` or indices of its blocks. None selects all.

    Raises:
        ValueError: there is no such stage or block, one is named twice, or ``blocks`` does not have
            one entry for each stage.
        TypeError: see :func:`stage_blocks`.
    """
    found = stage_blocks(backbone)
    sizes = ", ".join(str(len(stage)) for stage in found)
    has = f"{type(backbone).__name__} has {len(found)} stages, of {sizes} blocks"
    stages = _places("stages", range(len(found)) if stages is None else stages, len(found), has)
    blocks = ["all"] * len(stages) if blocks is None else blocks
    if not isinstance(blocks, list | tuple) or len(blocks) != len(stages):
        raise ValueError(
            f"blocks must have one entry for each of the {len(stages)} stages, 'all' or indices; "
            f"got {blocks!r}"
        )
    chosen = []
    for stage, places in zip(stages, blocks):
        size = len(found[stage])
        places = range(size) if places == "all" else places
        chosen += [found[stage][place] for place in _places(f"blocks of stage {stage}", places, size, has)]
    return chosen


def select_convs(
    backbone: nn.Module,
    convs: str | Sequence[str] | None = None,
    stages: Sequence[int] | None = None,
    blocks: Sequence[str | Sequence[int]] | None = None,
) -> list[nn.Module]:
    """Select convolutions: by patterns over module names, or by their names in the selected blocks.

    Args:
        backbone: a built backbone.
        convs: one pattern, ``'stages.*.conv2'``, or a sequence. Entries of a sequence are patterns if one
            of them has a ``*``, and then select from the whole backbone, whether its blocks are known or
            not; see :func:`attn_mm.graft.places.match_modules`. Of a module that contains a convolution as
            ``conv``, such as mmcv's ConvModule, that is selected.

            Otherwise they are names of units, such as ``('conv2',)``. Of a unit with several
            convolutions, such as :class:`attn_mm.layers.AAConv2d`, name one: ``'conv1.qkv'``. A kernel
            size, ``'3x3'``, selects all units that have it. A (2+1)D convolution means both factors; name
            ``'conv1.conv_s'`` or ``'conv1.conv_t'`` for one.

            None selects the units named conv2 where all selected blocks have one, as ResNets do. Elsewhere it
            selects :func:`usual_convs`.
        stages, blocks: see :func:`select_blocks`. The stages of a VGG are the groups of
            :func:`attn_mm.graft.units.plain_convs`; it has no blocks.

    Raises:
        ValueError: ``convs`` names no convolution of the backbone, or see :func:`select_blocks`.
        TypeError: see :func:`stage_blocks`.
    """
    if convs is None:
        if stages is not None or blocks is not None or _all_have(backbone, "conv2"):
            convs = ("conv2",)
        else:
            return usual_convs(backbone)
    if isinstance(convs, str) or _has_pattern(convs):
        if stages is not None or blocks is not None:
            raise ValueError(
                "stages and blocks exclude patterns in convs, which select from the whole backbone"
            )
        return _matching_convs(backbone, convs)
    if not isinstance(convs, list | tuple) or not convs or not all(isinstance(name, str) for name in convs):
        raise ValueError(
            "convs must be a pattern such as 'layer*.*.conv2', or a sequence of names such as ('conv2',), "
            f"got {convs!r}"
        )
    name, groups = type(backbone).__name__, plain_convs(backbone)
    if not groups:
        chosen = select_blocks(backbone, stages, blocks)
        parts = [(type(block).__name__, _unit_convs(block)) for block in chosen]
    elif blocks is not None:
        raise ValueError(f"{name} has no blocks: choose by stages and convs only, got blocks={blocks!r}")
    else:
        sizes = ", ".join(str(len(group)) for group in groups)
        has = f"{name} has {len(groups)} stages, of {sizes} convolutions"
        places = _places("stages", range(len(groups)) if stages is None else stages, len(groups), has)
        parts = [(name, {unit: [conv] for place in places for unit, conv in groups[place].items()})]
    found = (_find_convs(owner, units, wanted) for owner, units in parts for wanted in convs)
    return list(dict.fromkeys(chain.from_iterable(found)))


def _has_pattern(convs: object) -> bool:
    return isinstance(convs, list | tuple) and any(isinstance(name, str) and "*" in name for name in convs)


def _all_have(backbone: nn.Module, unit: str) -> bool:
    if plain_convs(backbone):
        return False
    try:
        blocks = list(chain.from_iterable(stage_blocks(backbone)))
    except TypeError:
        return False
    return all(unit in _unit_convs(block) for block in blocks)


_CONVS = (nn.Conv2d, nn.Conv3d)


def usual_convs(net: nn.Module) -> list[nn.Module]:
    """The convolutions that AWConv changes where nothing else is said, in any network.

    As in the paper's ResNets: those with a kernel over 1, but for depthwise ones and the network's first. A
    network without such convolutions gets those with kernel 1, as the paper's MobileNet, but for those on a
    single position, as in an SE. Convolutions with a forward of their own, as timm's ``Conv2dSame``, stay.

    Raises:
        ValueError: the network has neither.
    """
    found: list[Any] = [module for _, module in place_names(net).items() if isinstance(module, _CONVS)]
    convs = [conv for conv in dict.fromkeys(found) if not hasattr(conv, "without_attention")]
    plain = [conv for conv in convs[1:] if _is_plain(conv)]
    large = [conv for conv in plain if max(conv.kernel_size) > 1 and not _is_depthwise(conv)]
    if large:
        return large
    small = [conv for conv in plain if max(conv.kernel_size) == 1 and conv.groups == 1]
    try:
        outputs = look_at_outputs(net, small)
    except CannotRun:
        outputs = {}
    spread = [conv for conv in small if all(math.prod(shape[2:]) > 1 for shape in outputs.get(conv, ()))]
    if not spread:
        raise ValueError(
            f"{type(net).__name__} has no convolutions that AWConv changes by default: name convs='...'"
        )
    return spread


def _is_plain(conv: nn.Module) -> bool:
    """Whether the convolution is torch's, or mmcv's wrapper of it."""
    return forward_owner(conv).partition(".")[0] in ("torch", "mmcv")


def _is_depthwise(conv: Any) -> bool:
    return conv.groups > 1 and conv.groups == conv.in_channels


def _matching_convs(net: nn.Module, patterns: str | Sequence[str]) -> list[nn.Module]:
    try:
        matches = match_modules(net, "convs", patterns)
    except ValueError as error:
        if isinstance(patterns, str) and "*" not in patterns and _all_have(net, patterns):
            raise ValueError(
                f"convs={patterns!r} is a pattern; for a unit of each block write ({patterns!r},)"
            ) from error
        raise
    convs = {name: getattr(module, "conv", module) for name, module in matches.items()}
    found = [conv for conv in convs.values() if isinstance(conv, _CONVS)]
    if not found:
        name, other = next(iter(matches.items()))
        raise ValueError(
            f"convs={patterns!r} matches no convolution of {type(net).__name__}: "
            f"{name} is a {type(other).__name__}"
        )
    return list(dict.fromkeys(found))


def _unit_convs(block: nn.Module) -> dict[str, list[nn.Module]]:
    """The convolutions by unit; a unit may have several."""
    return {unit.name: list(unit.parts or [unit.conv]) for unit in family_of(block).units(block)}


def _find_convs(owner: str, units: dict[str, list[nn.Module]], wanted: str) -> list[nn.Module]:
    convs = [conv for unit in units.values() for conv in unit]
    sized = [conv for conv in convs if wanted == "x".join(map(str, getattr(conv, "kernel_size", ())))]
    name, _, part = wanted.partition(".")
    inner = [dict(conv.named_modules()) for conv in units.get(name, ())]
    parts = [modules[part] for modules in inner if part in modules]
    if not sized and not parts:
        raise ValueError(
            f"convs must be one of {', '.join(units)} in {owner}, a part of one, or a kernel "
            f"size, got {wanted!r}"
        )
    return [factor for conv in sized or parts for factor in _factors(conv)]


def _factors(conv: Any) -> list[nn.Module]:
    if isinstance(conv, nn.Sequential):
        return [part for part in conv if isinstance(part, _CONVS)]
    return [conv.conv_s, conv.conv_t] if forward_owner(conv) == _FACTORISED else [conv]


def _places(name: str, places, count: int, has: str) -> list[int]:
    """``places`` counted from 0."""
    # True and False are whole numbers to Python, and flags to mmdet's plugins.
    if not isinstance(places, list | tuple | range) or not places or any(type(p) is not int for p in places):
        raise ValueError(
            f"{name} must be a sequence of indices, such as (0, 1) or (-1,), got {places!r}: {has}"
        )
    if not all(-count <= place < count for place in places):
        raise ValueError(f"{name} must be in 0..{count - 1}, or in {-count}..-1, got {places!r}: {has}")
    positive = [place % count for place in places]
    if len(set(positive)) < len(positive):
        raise ValueError(f"{name} must not repeat, got {places!r}: {has}")
    return positive
