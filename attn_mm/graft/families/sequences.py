"""Read blocks and networks whose layers run one after the other, in ``nn.Sequential``s that name no parts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from torch import Tensor, nn

from attn_mm.graft.families.family import Split, Stage, Step, Unit, last_layer, run_in_turn
from attn_mm.graft.fold import FlowConv
from attn_mm.graft.grafted import find_flows

_CONVS: Any = (nn.Conv2d, nn.Conv3d)

Groups = list[list[Any]]
"""The modules of each stage, as they run."""


def units_in_turn(names: Sequence[str], layers: Iterable[nn.Module]) -> list[Unit]:
    """The units of layers that run in turn: each convolution starts one.

    A ``Sequential`` of a convolution, its norm and its activation, as torchvision's
    ``Conv2dNormActivation``, is one unit.

    Args:
        names: names of all units that blocks of the family can have; some blocks lack the first ones.
        layers: the block's layers.
    """
    units: list[Unit] = []
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            unit = _unit(list(layer))
            units.append(unit if unit.then else unit._replace(whole=layer))
        elif isinstance(layer, (*_CONVS, nn.Linear, FlowConv)):
            units.append(_unit([layer]))
        else:
            units[-1] = _extended(units[-1], layer)
    return [unit._replace(name=name) for name, unit in zip(names[len(names) - len(units) :], units)]


def _unit(layers: Sequence[Any]) -> Unit:
    conv, *others = layers
    unit = Unit("", conv, None, None)
    if isinstance(conv, nn.Sequential):
        # A convolution in factors, such as torchvision's Conv2Plus1D.
        factors = [part for part in conv if isinstance(part, _CONVS)]
        unit = unit._replace(channels=(factors[0].in_channels, factors[-1].out_channels))
    for layer in others:
        unit = _extended(unit, layer)
    return unit


def _extended(unit: Unit, layer: nn.Module) -> Unit:
    """``unit`` with the layer that follows it."""
    bare = unit.act is None and not unit.then and unit.whole is None
    if bare and unit.norm is None and _is_norm(layer):
        return unit._replace(norm=layer)
    return unit._replace(act=layer) if bare else unit._replace(then=(*unit.then, layer))


def _is_norm(layer: nn.Module) -> bool:
    # Of the activations only PReLU has parameters of its own. A folded norm leaves an identity.
    own = chain(layer.parameters(recurse=False), layer.buffers(recurse=False))
    return not isinstance(layer, nn.PReLU) and (isinstance(layer, nn.Identity) or next(own, None) is not None)


def over_channels(layer: Any, x: Tensor) -> Tensor:
    """Run a layer of maps ``(N, H, W, C)`` on ``x`` ``(N, C, H, W)``.

    Some activations round otherwise where the channels are not last in memory.
    """
    return layer(x.movedim(1, -1)).movedim(-1, 1)


def ends_where_smaller(layers: Sequence[nn.Module]) -> list[int]:
    """Where layers that run in turn fall into stages: before each that makes the map smaller.

    The first convolution and what follows it at once belong to the first stage, pools behind the last
    convolution to the last stage.

    Returns:
        The index of each stage's last layer.
    """
    ends: list[int] = []
    convs = 0
    for index, layer in enumerate(layers):
        if _shrinks(layer) and convs > (not ends):
            ends.append(index - 1)
            convs = 0
        convs += sum(isinstance(module, _CONVS) for module in layer.modules())
    return [*(ends if convs else ends[:-1]), len(layers) - 1]


def _shrinks(layer: nn.Module) -> bool:
    strides = (getattr(module, "stride", 1) for module in layer.modules())
    return any(
        max(stride) > 1 if isinstance(stride, tuple) else stride not in (1, None) for stride in strides
    )


def classifier(layers: Callable[[Any], Groups], head: Step) -> Split:
    """The split of a classifier: its stages, and once behind them its pooling and its head.

    Args:
        layers: gives the layers of each stage.
        head: computes what the network returns from the last map.
    """
    return Split(
        partial(_stages, layers),
        partial(_count, layers),
        outs=last_layer,
        give=partial(_headed, head),
        bare=True,
    )


def chain_classifier(layers: Callable[[Any], list[Any]], head: Step) -> Split:
    """The split of a classifier whose layers :func:`ends_where_smaller` groups into stages.

    Args:
        layers: gives the layers.
        head: computes what the network returns from the last map.
    """
    stages, ends = partial(_chain_stages, layers), partial(_chain_ends, layers)
    return Split(stages, ends, outs=last_layer, give=partial(_headed, head), bare=True)


def maps(layers: Callable[[Any], Groups], pack: Callable[[Any, tuple[Tensor, ...]], Any]) -> Split:
    """The split of a network that returns the maps of all of its stages.

    Args:
        layers: gives the layers of each stage.
        pack: computes what the network returns from the maps.
    """
    return Split(partial(_stages, layers), partial(_count, layers), outs=_all, pack=pack)


def returned_layers(net: Any) -> Groups:
    """The layers of a network that runs its children in turn and returns the maps of ``return_layers``."""
    stages: Groups = [[]]
    for name, layer in net.items():
        stages[-1].append(layer)
        if name in net.return_layers:
            stages.append([])
    return stages[:-1]


def named_maps(net: Any, given: tuple[Tensor, ...]) -> OrderedDict[str, Tensor]:
    """What such a network returns: its maps by their names."""
    return OrderedDict(zip(net.return_layers.values(), given))


# Partial functions, not closures: torch 2.4 compiles no closure that is made in another.
def _stages(layers: Callable[[Any], Groups], net: Any) -> list[Stage]:
    return [partial(run_in_turn, group) for group in layers(net)]


def _chain_ends(layers: Callable[[Any], list[Any]], net: Any) -> Sequence[int]:
    # Grafts and folded norms add convolutions to layers, or hide their strides.
    flows = find_flows(net)
    return ends_where_smaller(layers(net)) if flows is None or not flows.ends else flows.ends


def _chain_stages(layers: Callable[[Any], list[Any]], net: Any) -> list[Stage]:
    found, ends = layers(net), _chain_ends(layers, net)
    starts = [0, *(end + 1 for end in ends)]
    return [partial(run_in_turn, found[start : end + 1]) for start, end in zip(starts, ends)]


def _count(layers: Callable[[Any], Groups], net: Any) -> range:
    return range(len(layers(net)))


def _all(net: Any, count: int) -> range:
    return range(count)


def _headed(head: Step, net: Any, index: int, x: Tensor) -> Tensor:
    return head(net, x)
