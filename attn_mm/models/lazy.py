"""Register classes that need a framework without importing it until a config uses them."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.options import check_options
from attn_mm.registry import MODELS, attention_around

CLASSES = {
    "ConfidentStep": "attn_mm.models.classifiers.confident_step",
    "LocalContrast": "attn_mm.models.local_contrast",
    "LTPAHead": "attn_mm.models.heads.ltpa",
    "ResNeXtCIFAR": "attn_mm.models.backbones.resnext_cifar",
    "WSDAN": "attn_mm.models.classifiers.wsdan",
    "WSDANHead": "attn_mm.models.heads.wsdan",
}
"""Config name of each class and the module that defines it."""


def _register(name: str, module: str) -> None:
    def build(**options) -> nn.Module:
        return getattr(import_module(module), name)(**options)

    build.__doc__ = f"Build :class:`{module}.{name}`, whose options it takes."
    MODELS.register_module(name=name, module=build)


for _name, _module in CLASSES.items():
    _register(_name, _module)


def _without_attention(config: dict) -> dict:
    own = ("flows", "anar", "width", "eta", "first_mask", "flow_inputs")
    return {**{key: value for key, value in config.items() if key not in own}, "type": "mmpose.HeatmapHead"}


@MODELS.register_module(name="TDAFHeatmapHead")
@attention_around(_without_attention)
def tdaf_heatmap_head(**options) -> nn.Module:
    """Build :class:`attn_mm.models.heads.tdaf_heatmap.TDAFHeatmapHead` from its options.

    Raises:
        ConfigError: an option is unknown or out of its range.
    """
    from mmpose.models.heads import HeatmapHead

    from attn_mm.models.heads.tdaf_heatmap import TDAFHeatmapHead

    try:
        check_options(options, [TDAFHeatmapHead, HeatmapHead], "heatmap_head")
        return TDAFHeatmapHead(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"attn_mm.TDAFHeatmapHead: {error}") from error
