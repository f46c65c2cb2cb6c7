"""A model folded for deployment, by name: what ``tools/fuse.py`` writes a config and a checkpoint for."""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.graft.fuse import fuse
from attn_mm.registry import MODELS


@MODELS.register_module(name="Deployed")
def deployed(of: str, **model) -> nn.Module:
    """Build a model and fold its norms, so that a folded checkpoint fits it.

    A config becomes the deployed one by two entries, ``model = dict(type="attn_mm.Deployed", of="FCOS")``;
    the rest of the model stays.

    Args:
        of: the model's type.
        model: its options.
    """
    net = MMENGINE_MODELS.build(dict(type=of, **model))
    fuse(net)
    return net
