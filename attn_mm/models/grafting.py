"""Graft attention onto a network that is already built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.grafted import Grafted, find_flows, record_of
from attn_mm.graft.new_norms import synchronize_like, thaw_norms
from attn_mm.graft.options import check_options
from attn_mm.graft.own_init import OwnStart
from attn_mm.graft.restore import Snapshot
from attn_mm.graft.state import LoadReport, reports_copies
from attn_mm.graft.swap import swap_class, upstream_class
from attn_mm.models.grafts.layer import FILLED_IN, layer_class, put_layer
from attn_mm.models.grafts.turns import Turn, find_graft


class AttnMixin(LoadReport):
    """Mixin of every grafted network: training mode, initialization and load reports of what grafts add."""

    attn_mm: Grafted

    def train(self, mode: bool = True):
        super().train(mode)
        # norm_eval and partial_bn keep pretrained statistics, but the norms of new modules have none.
        for name in self.attn_mm.modules:
            module = self.get_submodule(name)
            if any(parameter.requires_grad for parameter in module.parameters()):
                module.train(mode)
                if getattr(self, "partial_bn", False):
                    thaw_norms(module)
        return self

    def init_weights(self, *args, **kwargs) -> None:
        again = getattr(self, "is_init", False)
        starts = [module for module in self.modules() if isinstance(module, OwnStart)]
        for own in starts:
            own.started = False
        with reports_copies(self):
            # torchvision's networks have no such method, but mmengine calls it on every part of a model.
            upstream: Any = getattr(super(), "init_weights", lambda *_, **__: None)
            upstream(*args, **kwargs)
        if again:
            return
        loaded = (*args, *kwargs.values(), getattr(self, "pretrained", None))
        if not any(isinstance(checkpoint, str) for checkpoint in loaded):
            for own in starts:
                if not own.started:
                    own.init_weights()
        for module in self.modules():
            if isinstance(module, FeedbackMixin):
                module.repeat_norms()


def graft_onto(net: nn.Module, grafts: Sequence[dict]) -> nn.Module:
    """Graft attention onto ``net``, in place.

    Args:
        net: a built network.
        grafts: dicts with a ``type``, see :func:`attn_mm.models.attn_backbone.attn_backbone`.

    Returns:
        ``net``, whose class is now a subclass of its own. Its parameters keep their names.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the network.
    """
    check_grafts(grafts)
    if (flows := find_flows(net)) is not None:
        raise ConfigError(
            f"the backbone already has {flows.graft}, which must be the outermost graft: "
            "list all grafts together"
        )
    if isinstance(net, torch.fx.GraphModule):
        raise ConfigError(
            "a torch.fx.GraphModule is code of its own: graft onto the network that it was traced from"
        )
    if any(hasattr(module, "attn_after") for module in net.modules()) and any(
        _turn(graft) in (Turn.LAYERS, Turn.BLOCKS) for graft in grafts
    ):
        raise ConfigError(
            "layers behind modules are there already: list all grafts together, TD and positions too"
        )
    with _undone_on_error(net):
        modes = {module: module.training for module in net.modules()}
        for graft in sorted(grafts, key=_turn):
            _apply(net, graft)
        upstream: Any = upstream_class(net)
        freezes = upstream.train is not nn.Module.train
        if not isinstance(net, AttnMixin):
            swap_class(net, AttnMixin)
        net.train(net.training)
        if not freezes:
            for module, mode in modes.items():
                module.training = mode
    return net


def _apply(net: nn.Module, graft: dict) -> None:
    options = dict(graft)
    kind = options.pop("type")
    try:
        modules = _function(kind, options)(net, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"graft {getattr(kind, '__name__', kind)}: {error}") from error
    example = next((p for p in net.parameters() if p.is_floating_point()), None)
    for module in modules:
        if example is not None:
            # Where weights are left out, some networks still make a few by themselves, such as SSD's L2Norm.
            weightless = any(parameter.is_meta for parameter in module.parameters())
            module.to(dtype=example.dtype) if weightless else module.to(example.device, example.dtype)
    synchronize_like(net, modules)
    names = {module: name for name, module in net.named_modules()}
    record = record_of(net)
    record.modules = [*record.modules, *(names[module] for module in modules)]


@contextmanager
def _undone_on_error(net: nn.Module) -> Iterator[None]:
    """In this context, an error leaves the modules of ``net`` as they were: none of several grafts stays."""
    before = Snapshot(net)
    try:
        yield
    except BaseException:
        before.restore()
        raise


def check_grafts(grafts: Sequence[dict]) -> None:
    """Raise ConfigError unless ``grafts`` is a list of dicts with a ``type`` that can be applied together."""
    if not isinstance(grafts, list | tuple) or not grafts:
        raise ConfigError(f"grafts must be a non-empty list of dicts, got {grafts!r}")
    in_flows = [graft["type"] for graft in grafts if _turn(graft) == Turn.FLOWS]
    if len(in_flows) > 1:
        raise ConfigError(
            f"grafts may have only one of {', '.join(in_flows)}: each runs the backbone in flows"
        )


def _turn(graft: dict) -> Turn:
    if not isinstance(graft, dict) or "type" not in graft:
        raise ConfigError(f"each graft must be a dict with a type, got {graft!r}")
    function = find_graft(graft["type"])
    if function is not None:
        turn: Turn = vars(function)["turn"]
        return turn
    if "outputs" in graft:
        return Turn.OUTPUTS
    return Turn.PLACES if "after" in graft else Turn.LAYERS


def _function(kind: str | type, options: dict) -> Callable[..., list[nn.Module]]:
    """The function that applies the graft ``kind``; raises ValueError if it doesn't have an option."""
    function = find_graft(kind)
    if function is not None:
        check_options(options, function, "backbone")
        return function
    layer = layer_class(kind)
    check_options(options, [layer, put_layer], *FILLED_IN, "backbone", "layer", "options")
    return partial(put_layer, layer=layer)
