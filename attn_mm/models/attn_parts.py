"""Graft attention onto any neck or head: the config types ``AttnNeck`` and ``AttnHead``."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.graft.grafted import record_of
from attn_mm.models.grafting import check_grafts, graft_onto
from attn_mm.registry import MODELS, attention_around


@MODELS.register_module(name="AttnNeck")
@attention_around(itemgetter("neck"))
def attn_neck(neck: dict, grafts: Sequence[dict]) -> nn.Module:
    """Build a neck and graft attention onto it.

    Returns the neck itself. Its parameters keep their names, so its checkpoints load.

    Args:
        neck: config of any neck.
        grafts: as those of :func:`attn_mm.models.attn_backbone.attn_backbone`. A neck has no stages and
            blocks: layers name their places by ``outputs`` or ``after``, AWConv by patterns in ``convs``.

    Returns:
        The grafted neck.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the neck.
    """
    check_grafts(grafts)
    net = MMENGINE_MODELS.build(neck)
    if not hasattr(net, "in_channels"):
        # As of SSD's neck: an example input needs them.
        record_of(net).in_channels = neck.get("in_channels")
    return graft_onto(net, grafts)


@MODELS.register_module(name="AttnHead")
@attention_around(itemgetter("head"))
def attn_head(head: dict, grafts: Sequence[dict], **given) -> nn.Module:
    """Build a head and graft attention onto it.

    Returns the head itself. Its parameters keep their names, so its checkpoints load.

    Args:
        head: config of any head with convolutions.
        grafts: as those of :func:`attn_neck`.
        given: what a detector adds to the config of its head, such as ``train_cfg``.

    Returns:
        The grafted head.

    Raises:
        ConfigError: a graft is unknown, has a wrong option, or doesn't fit the head.
    """
    check_grafts(grafts)
    return graft_onto(MMENGINE_MODELS.build({**head, **given}), grafts)
