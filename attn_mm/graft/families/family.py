"""What a graft must know of a block and of a backbone to run them in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from attn_mm.graft.grafted import find_flows

Step = Callable[[Any, Tensor], Tensor]
Stage = Callable[[Tensor], Tensor]

_LINEAR = {"in_channels": "in_features", "out_channels": "out_features"}


class Unit(NamedTuple):
    """One convolution of a residual branch, its norm, its activation and the block's own layers around.

    A linear layer over channels counts as a 1x1 convolution. Between units a map is ``(N, C, *size)``.
    """

    name: str
    conv: nn.Module
    norm: nn.Module | None
    act: Callable[[Tensor], Tensor] | None
    then: tuple[Callable[[Tensor], Tensor], ...] = ()
    whole: Callable[[Tensor], Tensor] | None = None
    """What runs convolution, norm and activation in the block's own way; None where there is nothing."""
    before: tuple[Callable[[Tensor], Tensor], ...] = ()
    """What the block does to the unit's input."""
    norm_first: bool = False
    """Whether norm and activation come before the convolution."""
    parts: tuple[nn.Module, ...] = ()
    """The convolutions of a unit that has several; it runs by ``whole`` only."""
    channels: tuple[int, int] | None = None
    """The channels that go in and come out, where the convolution doesn't tell."""

    @property
    def dims(self) -> Literal[2, 3]:
        """The dimensions that the convolution slides over."""
        if isinstance(self.conv, nn.Linear):
            return 2
        dims: Any = len(self._of_conv("kernel_size"))
        return dims

    @property
    def in_channels(self) -> int:
        return self.channels[0] if self.channels else self._of_conv("in_channels")

    @property
    def out_channels(self) -> int:
        return self.channels[1] if self.channels else self._of_conv("out_channels")

    def _of_conv(self, attribute: str):
        if isinstance(self.conv, nn.Linear):
            attribute = _LINEAR[attribute]
        # The convolution may be wrapped, as TSM does.
        owners = [module for module in self.conv.modules() if hasattr(module, attribute)]
        if not owners:
            raise TypeError(
                f"{self.name} is a {type(self.conv).__name__}, not a convolution that grafts support"
            )
        return getattr(owners[0], attribute)

    def convolve(self, x: Tensor) -> Tensor:
        """Run the convolution alone."""
        if isinstance(self.conv, nn.Linear):
            return self.conv(x.movedim(1, -1)).movedim(-1, 1)
        return self.conv(x)

    def run(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """Run the unit with ``norm`` in the place of its own norm."""
        for step in self.before:
            x = step(x)
        if self.whole is not None and norm is self.norm:
            x = self.whole(x)
        elif self.norm_first:
            x = self.convolve(self._normalize(x, norm))
        else:
            x = self._normalize(self.convolve(x), norm)
        for step in self.then:
            x = step(x)
        return x

    def _normalize(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        if norm is not None:
            x = norm(x)
        return x if self.act is None else self.act(x)


def no_shortcut(block: Any, x: Tensor) -> None:
    """The shortcut of a block that adds nothing."""
    return None


def as_it_is(owner: Any, x: Tensor) -> Tensor:
    """A step that changes nothing."""
    return x


def input_as_shortcut(block: Any, x: Tensor) -> Tensor:
    """The shortcut of a block that always adds its input."""
    return x


def with_cp(block: Any) -> bool:
    """Whether the block's config asks for gradient checkpointing."""
    return getattr(block, "with_cp", False)


class Family(NamedTuple):
    """How to read the blocks of one family, and how they start and end."""

    units: Callable[[Any], list[Unit]]
    shortcut: Callable[..., Tensor | None] = no_shortcut
    """``shortcut(block, x)``: what is added to the branch's output, None where nothing is.

    Further arguments are those of the block's forward.
    """
    finish: Step = as_it_is
    """``finish(block, sum)``: what the block does to the sum."""
    enter: Step = as_it_is
    """``enter(block, x)``: what the block does before branch and shortcut start."""
    join: Callable[[Any, Tensor, Tensor], Tensor] | None = None
    """``join(block, x, branch)``: how a block ends the branch that has more to do than add a shortcut."""
    checkpoints: Callable[[Any], bool] = with_cp
    """Whether the block asks for gradient checkpointing."""


def last_layer(backbone: Any, count: int) -> Sequence[int]:
    """The outputs of a backbone that returns its last map."""
    return [count - 1]


def out_indices(backbone: Any, count: int) -> Sequence[int]:
    """The outputs that a backbone's ``out_indices`` names, counted from 0."""
    return [index + count if index < 0 else index for index in backbone.out_indices]


def given_as_it_is(backbone: Any, index: int, x: Tensor) -> Tensor:
    """The output of a backbone that returns the stage's map."""
    return x


class Split(NamedTuple):
    """How to split the backbones of one family into stages."""

    stages: Callable[[Any], list[Stage]]
    indices: Callable[[Any], Sequence[int]]
    """What the backbone's outputs call the stages."""
    ends: Callable[[Any], list[nn.Module]] | None = None
    """The last block, or the last convolution, of every stage but the last: of each that can be attended.

    None lets a trial run on the meta device tell their channels.
    """
    outs: Callable[[Any, int], Sequence[int]] = out_indices
    """``outs(backbone, count)``: what the backbone returns, as ``indices`` calls it; of ``count`` layers."""
    give: Callable[[Any, int, Tensor], Tensor] = given_as_it_is
    """``give(backbone, index, x)``: what the backbone does to a map that it returns."""
    pack: Callable[[Any, tuple[Tensor, ...]], Any] | None = None
    """``pack(backbone, maps)``: how the backbone returns several maps, where not as a tuple."""
    bare: bool = False
    """Whether the backbone returns a single map as a tensor, not as a tuple of one."""
    dims: Literal[2, 3] | None = None
    """The dimensions of the maps, where they are not those of the convolutions in ``ends``."""
    possible_ends: Sequence[int] = ()
    """Where the stages can be chosen: the outputs behind which one may end, as ``indices`` calls them."""


Layers = Callable[[Any], list[list[Stage]]]
"""``layers(backbone)``: for each layer, the modules and functions that it runs one after the other."""


def layer_chain(
    layers: Layers,
    stem: Step = as_it_is,
    outs: Callable[[Any, int], Sequence[int]] = out_indices,
    give: Callable[[Any, int, Tensor], Tensor] = given_as_it_is,
    bare: bool = False,
) -> Split:
    """The split of a backbone that runs its layers one after the other.

    A stage ends before a layer that makes the map smaller, and behind a layer that the backbone returns. What
    runs before the first blocks belongs to the first stage.

    Args:
        layers: gives the layers, as the backbone's outputs count them.
        stem: what runs before them.
        outs, give, bare: see :class:`Split`.
    """
    return Split(
        partial(_stages, layers, outs, stem), partial(_ends, layers, outs), outs=outs, give=give, bare=bare
    )


def _stages(layers: Layers, outs: Callable, stem: Step, backbone: Any) -> list[Stage]:
    found = layers(backbone)
    ends = _ends(layers, outs, backbone)
    starts = [0, *(end + 1 for end in ends)]
    first, *others = (found[start : end + 1] for start, end in zip(starts, ends))
    return [together([partial(stem, backbone)], *first), *(together(*group) for group in others)]


def together(*layers: list[Stage]) -> Stage:
    """A stage of several layers."""
    steps = list(chain.from_iterable(layers))
    return steps[0] if len(steps) == 1 else partial(run_in_turn, steps)


# A function of the module, not a closure: torch 2.4 compiles no closure that is made in another.
def run_in_turn(steps: list[Stage], x: Tensor) -> Tensor:
    """Run modules and functions one after the other."""
    for step in steps:
        x = step(x)
    return x


def _ends(layers: Layers, outs: Callable, backbone: Any) -> Sequence[int]:
    flows = find_flows(backbone)
    if flows is not None and flows.ends:
        return flows.ends
    found = layers(backbone)
    last = len(found) - 1
    returned = set(outs(backbone, len(found)))
    return [
        index
        for index, layer in enumerate(found)
        if index == last or index in returned or (_shrinks(found[index + 1]) and not _is_stem(index, layer))
    ]


def _modules(layer: list[Stage]) -> Iterator[Any]:
    return chain.from_iterable(step.modules() for step in layer if isinstance(step, nn.Module))


def _shrinks(layer: list[Stage]) -> bool:
    strides = (getattr(module, "stride", 1) for module in _modules(layer))
    return any(max(s) > 1 if isinstance(s, tuple) else s not in (1, None) for s in strides)


def _is_stem(index: int, layer: list[Stage]) -> bool:
    return index == 0 and sum(isinstance(module, nn.Conv2d | nn.Conv3d) for module in _modules(layer)) <= 1


def from_conv_module(name: str, module: Any, then: tuple = ()) -> Unit:
    """The unit that mmcv's ``ConvModule`` is, or that several in an ``nn.Sequential`` are.

    Raises:
        TypeError: ``module`` is none.
    """
    if isinstance(module, nn.Sequential):
        inner = [from_conv_module(name, part) for part in module]
        channels = inner[0].in_channels, inner[-1].out_channels
        return several(name, module, tuple(unit.conv for unit in inner), channels, then)
    if not hasattr(module, "conv"):
        raise TypeError(f"{name} is a {type(module).__name__}, not a ConvModule")
    act = module.activate if module.with_activation else None
    return Unit(name, module.conv, module.norm, act, then, module)


def conv_module_chain(names: Sequence[str], modules: Sequence[nn.Module]) -> list[Unit]:
    """The units that ``ConvModule``s are; one that is separable counts as two, named by their kinds."""
    units = []
    for name, module in zip(names, modules):
        depthwise = getattr(module, "depthwise_conv", None)
        if depthwise is None:
            units.append(from_conv_module(name, module))
        else:
            units += [
                from_conv_module(f"{name}_depthwise", depthwise),
                from_conv_module(f"{name}_pointwise", module.pointwise_conv),
            ]
    return units


def several(
    name: str,
    whole: Callable[[Tensor], Tensor],
    parts: tuple[nn.Module, ...],
    channels: tuple[int, int],
    then: tuple = (),
) -> Unit:
    """A unit of several convolutions that grafts run as the block does."""
    return Unit(name, parts[0], None, None, then, whole, parts=parts, channels=channels)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Reorder the channels of ``x`` as ShuffleNets do (https://arxiv.org/abs/1707.01083, figure 1)."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def named_layers(attribute: str) -> Layers:
    """The layers that a backbone's list of names names."""
    return partial(_named_layers, attribute)


def _named_layers(attribute: str, backbone: Any) -> list[list[Stage]]:
    return [[getattr(backbone, name)] for name in getattr(backbone, attribute)]


def listed_layers(*attributes: str) -> Layers:
    """The layers in a backbone's ``nn.ModuleList``, or made of one module of each of several."""
    return partial(_listed_layers, attributes)


def _listed_layers(attributes: tuple[str, ...], backbone: Any) -> list[list[Stage]]:
    return [list(layer) for layer in zip(*(getattr(backbone, name) for name in attributes))]


def in_turn(*attributes: str) -> Step:
    """A step that runs the backbone's modules of these names one after the other."""
    return partial(_in_turn, attributes)


def _in_turn(attributes: tuple[str, ...], backbone: Any, x: Tensor) -> Tensor:
    for name in attributes:
        x = getattr(backbone, name)(x)
    return x
