"""Graft attention onto any upstream backbone: the config types ``AttnBackbone`` and ``TDAF``."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.models.grafting import check_grafts, graft_onto
from attn_mm.registry import MODELS, attention_around


@MODELS.register_module(name="AttnBackbone")
@attention_around(itemgetter("backbone"))
def attn_backbone(backbone: dict, grafts: Sequence[dict], pretrained: str | None = None) -> nn.Module:
    """Build an upstream backbone and graft attention onto it.

    Returns the upstream backbone object itself. Its parameters keep their names, so its
    checkpoints load, and its options keep their meaning.

    Args:
        backbone: config of any backbone. Layers at ``position`` and TD need blocks that are known, see
            :data:`attn_mm.graft.families.FAMILIES`.
        grafts: dicts with a ``type``: a graft (``attn_mm.AWConv``, ``attn_mm.TD``,
            ``attn_mm.WholeTD``, ``attn_mm.TDAF``, ``attn_mm.FlowPyramid``, ``attn_mm.MultiScale``,
            ``attn_mm.CUDAGraph``, see :mod:`attn_mm.models.grafts`) or a layer that accepts
            ``in_channels=`` (``attn_mm.SE``, ``attn_mm.CBAM``, ``attn_mm.ECA``, ``attn_mm.FCA``,
            ``attn_mm.TAM``, any mmcv plugin), see :func:`attn_mm.models.grafts.layer.put_layer`.
            They are applied by their :class:`attn_mm.models.grafts.turns.Turn`: AWConv, layers at
            ``position``, TD, layers at ``after``, one of WholeTD, TDAF, FlowPyramid and MultiScale, layers
            at ``outputs``, CUDAGraph.
        pretrained: weights that the model's own ``pretrained`` names, which mmsegmentation's models hand to
            their backbone.

    Returns:
        The grafted backbone.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the backbone.
    """
    # Before the backbone is built, which can take longer than to say what is wrong.
    check_grafts(grafts)
    if pretrained is not None:
        backbone = {**backbone, "pretrained": pretrained}
    return graft_onto(MMENGINE_MODELS.build(backbone), grafts)


@MODELS.register_module(name="TDAF")
@attention_around(itemgetter("backbone"))
def tdaf(backbone: dict, pretrained: str | None = None, **options) -> nn.Module:
    """Build an upstream backbone and graft TDAF's top-down recursion onto it.

    Args:
        backbone: config of a staged backbone, see :data:`attn_mm.graft.families.SPLITS`, or of an
            ``attn_mm.AttnBackbone`` around one.
        pretrained: see :func:`attn_backbone`.
        options: see :func:`attn_mm.models.grafts.tdaf.top_down_flows`.

    Returns:
        The grafted backbone.

    Raises:
        ConfigError: the backbone can't be split into stages, or an option is out of its range.
    """
    return attn_backbone(backbone, [dict(type="attn_mm.TDAF", **options)], pretrained)
