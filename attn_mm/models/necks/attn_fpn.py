"""The neck AttnFPN: a feature pyramid with attention right before its convolutions.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), "Object Detection on COCO" and table 3: "The SE and CBAM
modules are placed right before the lateral and output convolutions", and these are
AW-convolutions where ``conv_cfg`` says so.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from attn_mm.errors import ConfigError
from attn_mm.graft.options import check_options
from attn_mm.graft.state import LoadReport
from attn_mm.graft.swap import swap_class
from attn_mm.models.grafts.layer import FILLED_IN, layer_class
from attn_mm.registry import MODELS, attention_around


class AttnNeckMixin(LoadReport):
    """Mixin that turns mmdet's ``FPN`` into an ``AttnFPN``; the attention is in its convolutions."""

    prefix = "Attn"


class AttendedInputMixin(nn.Module):
    """Mixin: a ``ConvModule`` that applies attention to its input first."""

    attn: nn.Module

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        return super().forward(self.attn(x), *args, **kwargs)


def _without_attention(config: dict) -> dict:
    return {**{key: value for key, value in config.items() if key != "attention"}, "type": "mmdet.FPN"}


@MODELS.register_module(name="AttnFPN")
@attention_around(_without_attention)
def attn_fpn(attention: dict | None = None, **fpn) -> nn.Module:
    """Build mmdet's FPN with a layer right before every lateral and every output convolution.

    Output convolutions include those of the extra levels (``add_extra_convs``). The result is
    an ``mmdet.FPN`` whose parameters keep their names, so its checkpoints load. It adds
    ``lateral_convs.0.attn``, ``fpn_convs.0.attn`` and so on.

    Args:
        attention: the layer's ``type`` (``attn_mm.SE``, ``attn_mm.CBAM``, ``attn_mm.ECA``,
            ``attn_mm.FCA``, ``attn_mm.TAM``, or any that accepts ``in_channels=`` and keeps its
            input's shape) and its options; ``in_channels`` is set automatically. None adds no layer.
        fpn: options of ``mmdet.FPN``. For AW-FPN set ``conv_cfg=dict(type='attn_mm.AWConv2d')``.

    Returns:
        The neck.

    Raises:
        ConfigError: ``attention`` names no such layer, or an option is unknown.
    """
    try:
        check_options(fpn, [attn_fpn, MMENGINE_MODELS.get("mmdet.FPN")], "fpn")
    except ValueError as error:
        raise ConfigError(f"attn_mm.AttnFPN: {error}") from error
    neck: Any = swap_class(MMENGINE_MODELS.build(dict(type="mmdet.FPN", **fpn)), AttnNeckMixin)
    if attention is not None:
        for module in (*neck.lateral_convs, *neck.fpn_convs):
            module.attn = _layer(attention, module.in_channels)
            swap_class(module, AttendedInputMixin)
    return neck


def _layer(attention: dict, in_channels: int) -> nn.Module:
    if not isinstance(attention, dict) or "type" not in attention:
        raise ConfigError(
            f"attention must be a dict with a type, such as dict(type='attn_mm.SE'), got {attention!r}"
        )
    options = dict(attention)
    kind = options.pop("type")
    try:
        layer = layer_class(kind, or_graft=False)
        check_options(options, layer, *FILLED_IN)
        return layer(in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"attention {kind}: {error}") from error
