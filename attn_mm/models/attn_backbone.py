"""Graft attention onto any upstream backbone: the config types ``AttnBackbone`` and ``TDAF``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.grafted import Grafted, find_flows, record_of
from attn_mm.graft.new_norms import synchronize_like, thaw_norms
from attn_mm.graft.options import check_options
from attn_mm.graft.own_init import OwnStart
from attn_mm.graft.state import LoadReport, reports_copies
from attn_mm.graft.swap import swap_class
from attn_mm.models.grafts.layer import FILLED_IN, layer_class, put_layer
from attn_mm.registry import MODELS, Turn, attention_around, find_graft


class AttnMixin(LoadReport):
    """Mixin of every grafted backbone: training mode, initialization and load reports of what grafts add."""

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
            super().init_weights(*args, **kwargs)  # type: ignore[misc]  # of mmengine's BaseModule
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


@MODELS.register_module(name="AttnBackbone")
@attention_around(itemgetter("backbone"))
def attn_backbone(backbone: dict, grafts: Sequence[dict]) -> nn.Module:
    """Build an upstream backbone and graft attention onto it.

    Returns the upstream backbone object itself. Its parameters keep their names, so its
    checkpoints load, and its options keep their meaning.

    Args:
        backbone: config of any backbone of mmdet, mmpose, mmpretrain or mmaction whose blocks
            are known, see :data:`attn_mm.graft.families.FAMILIES`.
        grafts: dicts with a ``type``: a graft (``attn_mm.AWConv``, ``attn_mm.TD``,
            ``attn_mm.TDAF``, ``attn_mm.FlowPyramid``, ``attn_mm.MultiScale``, ``attn_mm.CUDAGraph``, see
            :mod:`attn_mm.models.grafts`) or a layer that accepts ``in_channels=`` (``attn_mm.SE``,
            ``attn_mm.CBAM``, ``attn_mm.ECA``, ``attn_mm.FCA``, ``attn_mm.TAM``, any mmcv plugin),
            see :func:`attn_mm.models.grafts.layer.put_layer`.
            They are applied by their :class:`attn_mm.registry.Turn`: AWConv, layers as listed, TD, one
            of TDAF, FlowPyramid and MultiScale, CUDAGraph.

    Returns:
        The grafted backbone.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the backbone.
    """
    if not isinstance(grafts, list | tuple) or not grafts:
        raise ConfigError(f"grafts must be a non-empty list of dicts, got {grafts!r}")
    net = MMENGINE_MODELS.build(backbone)
    if (flows := find_flows(net)) is not None:
        has = flows.graft
        raise ConfigError(
            f"the backbone already has {has}, which must be the outermost graft: list all grafts together"
        )
    grafts = sorted(grafts, key=_turn)
    in_flows = [graft["type"] for graft in grafts if _turn(graft) == Turn.FLOWS]
    if len(in_flows) > 1:
        raise ConfigError(
            f"grafts may have only one of {', '.join(in_flows)}: each runs the backbone in flows"
        )
    modules = []
    for graft in grafts:
        options = dict(graft)
        kind = options.pop("type")
        try:
            modules += _function(kind, options)(net, **options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"graft {kind}: {error}") from error
    synchronize_like(net, modules)
    names = {module: name for name, module in net.named_modules()}
    record_of(net).modules += [names[module] for module in modules]
    if not isinstance(net, AttnMixin):
        swap_class(net, AttnMixin)
    net.train(net.training)
    return net


def _turn(graft: dict) -> Turn:
    if not isinstance(graft, dict) or "type" not in graft:
        raise ConfigError(f"each graft must be a dict with a type, got {graft!r}")
    return getattr(find_graft(graft["type"]), "turn", Turn.LAYERS)


def _function(kind: str | type, options: dict) -> Callable[..., list[nn.Module]]:
    """The function that applies the graft ``kind``; raises ValueError if it doesn't have an option."""
    function = find_graft(kind)
    if function is not None:
        check_options(options, function, "backbone")
        return function
    layer = layer_class(kind)
    check_options(options, [layer, put_layer], *FILLED_IN, "backbone", "layer", "options")
    return partial(put_layer, layer=layer)


@MODELS.register_module(name="TDAF")
@attention_around(itemgetter("backbone"))
def tdaf(backbone: dict, **options) -> nn.Module:
    """Build an upstream backbone and graft TDAF's top-down recursion onto it.

    Args:
        backbone: config of a staged backbone, see :data:`attn_mm.graft.families.SPLITS`, or of an
            ``attn_mm.AttnBackbone`` around one.
        options: see :func:`attn_mm.models.grafts.tdaf.top_down_flows`.

    Returns:
        The grafted backbone.

    Raises:
        ConfigError: the backbone can't be split into stages, or an option is out of its range.
    """
    return attn_backbone(backbone, [dict(type="attn_mm.TDAF", **options)])
