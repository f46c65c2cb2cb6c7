"""Put layers behind any module of a network, or behind the maps that a network returns.

The module keeps its name and its parameters' names: its class is swapped for one that runs the layers on
what the module gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.hidden import add_child
from attn_mm.graft.places import match_modules
from attn_mm.graft.probe import (
    CannotRun,
    channels_of,
    gives_other_maps_in_training,
    look_at_outputs,
    run_on_example,
)
from attn_mm.graft.swap import swap_class
from attn_mm.graft.units import other_forwards

Build = Callable[[int, int], nn.Module]
"""``build(channels, dims)``: a new layer for maps ``(N, channels, *size)`` with ``dims`` sides."""


class BehindMixin(nn.Module):
    """Mixin: the layers in ``attn_after`` run on every output of the module."""

    prefix = "Attended"
    attn_after: nn.Sequential

    def forward(self, *args, **kwargs) -> Tensor:
        return self.attn_after(super().forward(*args, **kwargs))


class BehindConvMixin(BehindMixin):
    """Mixin: the same for a convolution, into which no norm can be folded any more."""

    loading = False

    def _load_from_state_dict(self, *args) -> None:
        self.loading = True
        try:
            super()._load_from_state_dict(*args)
        finally:
            del self.loading

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        # mmcv's fuse_conv_bn folds the norm that follows in the block, past the layers between the two.
        if name == "bias" and param is not None and not self.loading:
            raise RuntimeError(
                "fuse_conv_bn can't fold a norm into a convolution with attention behind it: "
                "use attn_mm.graft.fuse.fuse"
            )
        super().register_parameter(name, param)


class InOnePieceMixin(nn.Module):
    """Mixin of timm's networks with layers behind a ``Sequential``: checkpointing would run it in parts."""

    prefix = ""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Refuse to checkpoint: the layers behind a sequence would not run."""
        if enable:
            raise ConfigError(
                "timm's gradient checkpointing runs sequences in parts, past the attention behind them: "
                "attach it behind their last parts"
            )


class OutputsMixin(nn.Module):
    """Mixin: the layers in ``attn_outputs`` run on the maps that the network returns."""

    prefix = "Attended"
    attn_outputs: nn.ModuleDict
    """Layers by the output's position."""

    def forward(self, *args, **kwargs) -> Any:
        return self._attended(super().forward(*args, **kwargs))

    def _attended(self, outputs: Any) -> Any:
        if isinstance(outputs, Tensor):
            return self.attn_outputs["0"](outputs)
        keys: Any = list(outputs) if isinstance(outputs, Mapping) else range(len(outputs))
        maps = {place: outputs[key] for place, key in enumerate(keys)}
        for place, layers in self.attn_outputs.items():
            maps[int(place)] = layers(maps[int(place)])
        attended: Any = getattr(type(outputs), "_make", type(outputs))
        return attended(zip(keys, maps.values()) if isinstance(outputs, Mapping) else maps.values())


class RecursiveOutputsMixin(OutputsMixin):
    """Mixin of DetectoRS's backbones: the layers run in the recursive pyramid's passes, too."""

    def rfp_forward(self, *args) -> Any:
        """The network's second forward."""
        return self._attended(super().rfp_forward(*args))  # type: ignore[misc]


def put_behind_modules(net: nn.Module, patterns: str | Sequence[str], build: Build) -> list[nn.Module]:
    """Put a layer behind every module of ``net`` whose name matches.

    Args:
        net: any network.
        patterns: see :func:`attn_mm.graft.places.match_modules`.
        build: makes a layer.

    Returns:
        The new layers.

    Raises:
        ValueError: a pattern matches nothing; a match doesn't run, gives no map, or gives maps whose
            channels differ; a layer behind it would be lost.
    """
    matches = match_modules(net, "after", patterns)
    for name, module in matches.items():
        _check_keeps_layers(net, name, module)
    try:
        outputs = look_at_outputs(net, matches.values())
    except CannotRun as error:
        outputs = {module: [_known_map(name, module, error)] for name, module in matches.items()}
        return [_put(module, build(*_map_of(name, module, outputs))) for name, module in matches.items()]
    new = {name: _put(module, build(*_map_of(name, module, outputs))) for name, module in matches.items()}
    check_run(net, "after", new)
    in_parts = any(isinstance(module, nn.Sequential) for module in matches.values())
    if in_parts and hasattr(net, "set_grad_checkpointing") and not isinstance(net, InOnePieceMixin):
        swap_class(net, InOnePieceMixin)
    return list(new.values())


def check_run(net: nn.Module, option: str, modules: Mapping[str, nn.Module]) -> None:
    """Raise ValueError if one of the new ``modules``, by the place's name, doesn't run when ``net`` does."""
    try:
        ran = look_at_outputs(net, modules.values())
    except CannotRun as error:
        raise ValueError(f"{option}: with it {error}") from error
    for name, module in modules.items():
        if module not in ran:
            raise ValueError(
                f"{option}: attention at {name} never runs in {type(net).__name__}: name another place"
            )


def _known_map(name: str, module: nn.Module, error: CannotRun) -> tuple[int, ...]:
    conv: Any = getattr(module, "conv", module)
    channels = channels_of(module) if isinstance(conv, _ConvNd) else None
    if channels is None:
        raise ValueError(f"after: the channels of {name} are not known, because {error}") from error
    return (1, channels, *conv.kernel_size)


def _map_of(name: str, module: nn.Module, outputs: Mapping[nn.Module, list]) -> tuple[int, int]:
    """The channels and the dimensions of the maps that ``module`` gives."""
    kind = type(module).__name__
    if module not in outputs:
        raise ValueError(
            f"after: {name} ({kind}) doesn't run by itself, so nothing can follow it: name its parts"
        )
    given = outputs[module]
    for output in given:
        if not is_map(output):
            raise ValueError(
                f"after: {name} ({kind}) gives {describe_output(output)}, not a map (N, C, *size)"
            )
    maps = {(output[1], len(output) - 2) for output in given}
    if len(maps) > 1:
        widths = " and ".join(str(channels) for channels, _ in sorted(maps))
        raise ValueError(
            f"after: {name} ({kind}) runs {len(given)} times, with {widths} channels: name other places"
        )
    return next(iter(maps))


def is_map(output: Any) -> bool:
    """Whether ``output``, as :mod:`attn_mm.graft.probe` gives it, is the shape of a map ``(N, C, *size)``."""
    return isinstance(output, tuple) and len(output) in (4, 5) and not _has_channels_last(output)


def _has_channels_last(output: tuple[int, ...]) -> bool:
    # The example inputs are square.
    *_, height, width, channels = output
    return height == width != channels


def describe_output(output: Any) -> str:
    """Say what ``output`` is, where it is no map."""
    if isinstance(output, tuple) and len(output) in (4, 5):
        return f"a map {output} with channels last"
    if isinstance(output, tuple):
        return f"a tensor of {len(output)} dimensions {output}"
    return "several tensors" if isinstance(output, list | dict) else f"a {output}"


def _check_keeps_layers(net: nn.Module, name: str, module: nn.Module) -> None:
    """Raise ValueError where a layer behind ``module`` would be lost later."""
    if isinstance(module, _BatchNorm):
        raise ValueError(
            f"after: {name} is a batch norm, which conversions (SyncBN) replace: name the layer before it"
        )
    refuse_merged(net, "after", name)
    inside = module if isinstance(module, nn.Sequential) else [module]
    ways = {way for part in inside for way in other_forwards(part)}
    if ways:
        raise ValueError(f"after: {name} also runs by {', '.join(sorted(ways))}, past what is behind it")
    for parent in _parents(name):
        owner = net.get_submodule(parent)
        if isinstance(owner, FeedbackMixin) and any(module is unit.whole for unit in owner.rerun()):
            raise ValueError(
                f"after: {name} ({type(module).__name__}) runs in parts in a block with TD: use position="
            )


_MERGES = ("switch_to_deploy", "reparameterize", "fuse")
"""Methods of blocks of mmpretrain and timm that merge their convolutions."""


def refuse_merged(net: nn.Module, option: str, name: str) -> None:
    """Raise ValueError if ``name`` is in a block that merges its parts for deployment, as RepVGG's do."""
    for parent in _parents(name):
        owner = net.get_submodule(parent)
        if any(hasattr(owner, method) for method in _MERGES):
            kind = type(owner).__name__
            raise ValueError(f"{option}: {name} is merged with others when {parent} ({kind}) is deployed")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _put(module: Any, layer: nn.Module) -> nn.Module:
    if not isinstance(module, BehindMixin):
        add_child(module, "attn_after", nn.Sequential())
        swap_class(module, BehindConvMixin if isinstance(module, _ConvNd) else BehindMixin)
    module.attn_after.append(layer)
    return layer


def put_behind_outputs(net: Any, outputs: Sequence[int | str] | str, build: Build) -> list[nn.Module]:
    """Put a layer behind maps that ``net`` returns. The next stages of ``net`` don't see its result.

    Args:
        net: any network that returns a map, or several.
        outputs: which: as its ``out_indices`` call them, or their keys in a dict, or their positions
            from 0; ``'all'`` for all.
        build: makes a layer.

    Returns:
        The new layers.

    Raises:
        ValueError: there is no such output, it is no map, or training gives others.
    """
    try:
        outputs_of, inputs = run_on_example(net, [net])
    except CannotRun as error:
        raise ValueError(f"outputs: {error}: use after='...'") from error
    (returned,) = outputs_of[net]
    if gives_other_maps_in_training(net, *inputs):
        raise ValueError(f"outputs: {type(net).__name__} returns other maps in training: use after='...'")
    maps = _named_outputs(net, returned)
    names = ", ".join(map(repr, maps))
    has = f"{type(net).__name__} returns {names}"
    wanted = list(maps) if outputs == "all" else outputs
    if (
        not isinstance(wanted, list | tuple)
        or not wanted
        or any(type(name) not in (int, str) for name in wanted)
    ):
        raise ValueError(
            f"outputs must be 'all' or a sequence such as ({next(iter(maps))!r},), got {outputs!r}: {has}"
        )
    places = {name: place for place, name in enumerate(maps)}
    for name in wanted:
        if name not in maps or wanted.count(name) > 1:
            raise ValueError(f"outputs must be 'all' or some of {names}, each once, got {outputs!r}")
        if not is_map(maps[name]):
            raise ValueError(
                f"outputs: {type(net).__name__} returns {describe_output(maps[name])}, "
                "not a map (N, C, *size): use after='...'"
            )
    if not isinstance(net, OutputsMixin):
        add_child(net, "attn_outputs", nn.ModuleDict())
        swap_class(net, RecursiveOutputsMixin if hasattr(net, "rfp_forward") else OutputsMixin)
    new = {}
    for name in wanted:
        shape = maps[name]
        place = str(places[name])
        if place not in net.attn_outputs:
            net.attn_outputs[place] = nn.Sequential()
        layer = build(shape[1], len(shape) - 2)
        net.attn_outputs[place].append(layer)
        new[str(name)] = layer
    check_run(net, "outputs", new)
    return list(new.values())


def _named_outputs(net: Any, returned: Any) -> dict[Any, Any]:
    """What ``net`` returned by the names that ``outputs`` gives them."""
    if isinstance(returned, dict):
        return returned
    maps = returned if isinstance(returned, list) else [returned]
    indices = getattr(net, "out_indices", ())
    if isinstance(indices, list | tuple | range) and len(indices) == len(maps):
        return dict(zip(indices, maps))
    return dict(enumerate(maps))
