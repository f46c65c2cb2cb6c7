"""Read the data flow of a built network.

It lists the network's parts in order, the flows of a recursion, the units of blocks with attention, and the
levels of attention heads and FPNs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from attn_mm.describe.calls import Call, Shape
from attn_mm.describe.module_tree import size
from attn_mm.graft.behind import BehindMixin, OutputsMixin
from attn_mm.graft.blocks import AttendedMixin, FeedbackMixin
from attn_mm.graft.families import SPLITS
from attn_mm.graft.families.family import Unit
from attn_mm.graft.grafted import RunsStagesInFlows, find_flows
from attn_mm.graft.swap import upstream_class
from attn_mm.graft.units import find_family
from attn_mm.layers import ANAR, AAConv2d, AWConv2d, AWConv3d
from attn_mm.layers.ltpa import LearnToPayAttention, ParametrisedCompatibility

Calls = Mapping[str, Sequence[Call]]


@dataclass
class Part:
    """A part of the network, or a stage of its backbone, in the order of first calls.

    Attributes:
        name, type: name and class of the part.
        outputs: shapes of its last outputs.
        params, conv: parameters and multiply-adds over all its calls.
        beside: whether it runs beside the others instead of after them, as the makers of masks do.
    """

    name: str
    type: str
    outputs: tuple[Shape, ...]
    params: int
    conv: int
    beside: bool = False


@dataclass
class Flows:
    """The flows of a recursion over stages.

    Attributes:
        name: name of the module that has the stages.
        flows: number of flows.
        stages: names of the stages; the first is "stem + ..." if the stem runs in it, once in each flow.
        cells: the call at each ``(stage from 0, flow from 1)``.
        masks: maker and shape of the mask at each ``(stage, flow)``; the flow is the one that it multiplies.
        eta: the constant added to the masks; None without masks.
        given: the flow, from 1, whose maps are the output, and their stages, from 0; None if the last maps
            of all flows are the output.
    """

    name: str
    flows: int
    stages: list[str]
    cells: dict[tuple[int, int], Call]
    masks: dict[tuple[int, int], str] = field(default_factory=dict)
    eta: float | None = None
    given: tuple[int, list[int]] | None = None


@dataclass
class Step:
    """A unit of a block: a convolution with its norm, and the layers behind it.

    Attributes:
        name: the unit's.
        kernel: its size.
        weights_attend: whether it is an AW-convolution, or made of some.
        behind: the layers' classes.
        factor: what multiplies the weights of an AW-convolution, in its paper's letters.
    """

    name: str
    kernel: str
    weights_attend: bool = False
    behind: tuple[str, ...] = ()
    factor: str = ""


@dataclass
class Block:
    """A kind of block with attention in it.

    Attributes:
        type: class name.
        where: names of the blocks of this kind.
        steps: the units of the block.
        shortcut: whether the input is added to the branch.
        td: top-down feedback, ``{"steps", "distance", "mode", "spatial"}``; None without feedback.
    """

    type: str
    where: list[str]
    steps: list[Step]
    shortcut: bool
    td: dict | None = None


@dataclass
class Level:
    """A level of an FPN: its convolutions, the attention before them, its output."""

    lateral: str
    output: str
    before_lateral: str = ""
    before_output: str = ""
    shape: str = ""


@dataclass
class Pyramid:
    """An FPN with attention; a level without a lateral convolution is made from the previous level."""

    name: str
    levels: list[Level]


@dataclass
class Head:
    """A head with attention.

    Attributes:
        name, type: name and class of the head.
        levels: shapes of the maps that it attends to.
        query: width of the global feature that is compared with the maps, or ``''``.
        compatibility: formula of the comparison.
        result: what the head does with the attended features.
    """

    name: str
    type: str
    levels: list[str]
    query: str
    compatibility: str
    result: str


@dataclass
class Followed:
    """Modules of one class, or outputs of the network, with the same layers behind them.

    Attributes:
        type: class name of the modules; empty for outputs.
        where: their names.
        layers: the layers' classes, in the order in which they run.
    """

    type: str
    where: list[str]
    layers: tuple[str, ...]


@dataclass
class DataFlow:
    """Everything that the drawing of a network shows."""

    input: Shape
    parts: list[Part]
    flows: list[Flows]
    blocks: list[Block]
    pyramids: list[Pyramid]
    heads: list[Head]
    convs: list[str]
    """Names of convolutions outside blocks that have attention on their weights."""
    factor: str
    """What multiplies their weights, see :class:`Step`."""
    followed: list[Followed]


def find_dataflow(model: nn.Module, calls: Calls, amounts: Mapping, shape: Shape) -> DataFlow:
    """Read the data flow from the built ``model`` and its ``calls``, without the config."""
    blocks = list(_blocks(model))
    pyramids = list(_pyramids(model, calls))
    drawn = [name for block in blocks for name in block.where] + [pyramid.name for pyramid in pyramids]
    convs = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (AWConv2d, AWConv3d)) and not any(name.startswith(f"{d}.") for d in drawn)
    ]
    return DataFlow(
        tuple(shape),
        list(_parts(model, calls, amounts)),
        list(_flows(model, calls)),
        blocks,
        pyramids,
        list(_heads(model, calls)),
        convs,
        _factor(nn.ModuleList(model.get_submodule(name) for name in convs)),
        list(_followed(model)),
    )


def _parts(model: nn.Module, calls: Calls, amounts: Mapping) -> Iterator[Part]:
    """The network's children, with a backbone replaced by its stages and the stem before them."""
    owners = [("", model)]
    if not hasattr(model, "res_layers"):
        owners = [(n, child) for n, child in model.named_children() if amounts[n].full or calls.get(n)]
    for name, module in owners:
        stages = getattr(module, "res_layers", None)
        if stages is None or not all(isinstance(stage, str) for stage in stages):
            yield _part(name, module, calls, amounts)
            continue
        prefix = f"{name}." if name else ""
        stem = [n for n, _ in module.named_children() if n not in stages and n != "anars"]
        stem = [f"{prefix}{n}" for n in stem if calls.get(f"{prefix}{n}")]
        if stem:
            costs = [amounts[n] for n in stem]
            yield Part(
                f"{prefix}stem",
                "",
                calls[stem[-1]][-1].shapes,
                sum(cost.params for cost in costs),
                sum(cost.conv for cost in costs),
            )
        for stage in stages:
            yield _part(f"{prefix}{stage}", getattr(module, stage), calls, amounts)
        makers = getattr(module, "anars", None)
        if isinstance(makers, nn.Module):
            part = _part(f"{prefix}anars", makers, calls, amounts)
            yield replace(part, type="makers of masks", beside=True)


def _part(name: str, module: nn.Module, calls: Calls, amounts: Mapping) -> Part:
    own = calls.get(name, ())
    amount = amounts[name]
    return Part(name, type(module).__name__, own[-1].shapes if own else (), amount.params, amount.conv)


def _flows(model: nn.Module, calls: Calls) -> Iterator[Flows]:
    for name, module in model.named_modules():
        flows = find_flows(module)
        if flows is None:
            continue
        prefix = f"{name}." if name else ""
        if isinstance(module, RunsStagesInFlows):
            keys = [f"{prefix}flow_stages.{i}" for i in range(len(module.flow_stages()))]
        else:
            keys = [f"{prefix}{stage}" for stage in getattr(module, "res_layers", ())] or [name]
        cells = {
            (index, call.flow): call
            for index, key in enumerate(keys)
            for call in calls.get(key, ())
            if call.flow is not None
        }
        stages = list(getattr(module, "res_layers", ())) or [f"stage {i + 1}" for i in range(len(keys))]
        own = sum(call.conv for call in calls.get(f"{prefix}{stages[0]}", ()))
        if own and own < sum(call.conv for (index, _), call in cells.items() if index == 0):
            stages[0] = f"stem + {stages[0]}"
        masks = {}
        anars = getattr(module, "anars", ())
        for index, anar in enumerate(anars):
            for call in calls.get(f"{prefix}anars.{index}", ()):
                assert call.flow is not None
                masks[index, call.flow + 1] = f"{anar_name(anar)} {size(call.shapes[0][1:])}"
        given = None
        if anars:
            # A head's flows give their last map.
            indices = getattr(module, "out_indices", None)
            last = [len(keys) - 1]
            given = flows.number, last if indices is None else _places(module, indices)
        yield Flows(name, flows.number, stages, cells, masks, flows.eta, given)


def _places(backbone: Any, indices: Sequence[int]) -> list[int]:
    ends = backbone.flows.ends
    returned = SPLITS[backbone.flows.upstream_forward].outs(backbone, ends[-1] + 1)
    return [ends.index(index) for index in returned]


def anar_name(anar: nn.Module) -> str:
    """Name of a mask maker: ANAR-3, -5 ... by its layers from map to mask, or the class of any other."""
    if not isinstance(anar, ANAR):
        return type(anar).__name__
    return f"ANAR-{2 + len(anar.downs) + len(anar.ups)}"


def _blocks(model: nn.Module) -> Iterator[Block]:
    kinds: dict[tuple, Block] = {}
    for name, module in model.named_modules():
        family = find_family(module)
        if family is None:
            continue
        units = family.units(module)
        steps = [_step(module, unit) for unit in units]
        td = None
        if isinstance(module, FeedbackMixin):
            attention = module.td.attention
            td = dict(
                steps=len(module.td.norms) + 1,
                distance=module.td.distance,
                mode="top" if attention.bottom_mlp is None else "joint",
                spatial=attention.spatial,
            )
        if td is None and not any(s.weights_attend or s.behind or "+" in s.kernel for s in steps):
            continue
        upstream = upstream_class(module).__name__
        block = Block(upstream, [], steps, _has_shortcut(module), td)
        key = upstream, tuple(map(repr, steps)), repr(td), block.shortcut
        kinds.setdefault(key, block).where.append(name)
    yield from kinds.values()


def _has_shortcut(block: nn.Module) -> bool:
    if hasattr(block, "downsample"):
        return True
    return bool(getattr(block, "with_res_shortcut", getattr(block, "use_res_connect", False)))


def _step(block: nn.Module, unit: Unit) -> Step:
    kernel = size(getattr(unit.conv, "kernel_size", ()))
    groups = getattr(unit.conv, "groups", 1)
    if 1 < groups == getattr(unit.conv, "in_channels", 0):
        kernel = f"{kernel} depthwise"
    behind = [type(layer).__name__ for layer in unit.then]
    if isinstance(block, AttendedMixin) and unit.name in block.attended:
        behind += [type(layer).__name__ for layer in block.attended[unit.name].children()]
    if isinstance(unit.conv, AAConv2d):
        kernel = f"{kernel} + self-attention"
    factor = _factor(unit.conv)
    return Step(unit.name, kernel, bool(factor), tuple(behind), factor)


def _factor(module: nn.Module) -> str:
    """What multiplies the weights of the AW-convolutions in a module; empty if it has none."""
    found = [m.attention.identity for m in module.modules() if isinstance(m, (AWConv2d, AWConv3d))]
    return " or ".join(dict.fromkeys("(1 + A)" if identity else "A" for identity in found))


def _pyramids(model: nn.Module, calls: Calls) -> Iterator[Pyramid]:
    for name, module in model.named_modules():
        laterals, outputs = getattr(module, "lateral_convs", None), getattr(module, "fpn_convs", None)
        if laterals is None or outputs is None:
            continue
        convs = [m for m in module.modules() if isinstance(m, (AWConv2d, AWConv3d))]
        if not convs and not any(hasattr(m, "attn") for m in (*laterals, *outputs)):
            continue
        shapes = calls[name][-1].shapes if calls.get(name) else ()
        levels = []
        for index, output in enumerate(outputs):
            lateral = laterals[index] if index < len(laterals) else None
            levels.append(
                Level(
                    lateral="" if lateral is None else _conv_name(lateral),
                    output=_conv_name(output),
                    before_lateral=_attn_name(lateral),
                    before_output=_attn_name(output),
                    shape=size(shapes[index]) if index < len(shapes) else "",
                )
            )
        yield Pyramid(name, levels)


def _conv_name(module: Any) -> str:
    conv = getattr(module, "conv", module)
    attends = "AW " if isinstance(conv, (AWConv2d, AWConv3d)) else ""
    return f"{attends}{size(conv.kernel_size)}"


def _attn_name(module: Any) -> str:
    return type(module.attn).__name__ if hasattr(module, "attn") else ""


def _followed(model: nn.Module) -> Iterator[Followed]:
    found: dict[tuple, Followed] = {}

    def add(kind: str, where: str, layers: Iterable[nn.Module]) -> None:
        types = tuple(type(layer).__name__ for layer in layers)
        found.setdefault((kind, types), Followed(kind, [], types)).where.append(where)

    for name, module in model.named_modules():
        if isinstance(module, BehindMixin):
            add(upstream_class(module).__name__, name, module.attn_after)
        if isinstance(module, OutputsMixin):
            for place, layers in module.attn_outputs.items():
                add("", f"{name or 'network'}: map {place}", layers.children())
    yield from found.values()


def _heads(model: nn.Module, calls: Calls) -> Iterator[Head]:
    maps = [size(shape) for shape in calls["backbone"][-1].shapes] if calls.get("backbone") else []
    for name, module in model.named_modules():
        inner = list(getattr(module, "attentions", ()) or ())
        if inner and all(isinstance(m, LearnToPayAttention) for m in inner):
            several = len(module.classifiers) > 1
            with_u = isinstance(inner[0].compatibility, ParametrisedCompatibility)
            yield Head(
                name,
                type(module).__name__,
                maps[:-1] if len(maps) == len(inner) + 1 else [f"level {i + 1}" for i in range(len(inner))],
                maps[-1] if maps else "",
                "⟨u, l + g⟩" if with_u else "⟨l, g⟩",
                f"{len(module.classifiers)} classifiers, mean" if several else "concatenated, 1 classifier",
            )
        elif hasattr(module, "centre_loss") and isinstance(getattr(module, "attention", None), nn.Sequential):
            parts = module.attention[0].out_channels
            yield Head(
                name,
                type(module).__name__,
                maps[-1:],
                "",
                f"{parts} part maps",
                "pooled by part, 1 classifier",
            )
