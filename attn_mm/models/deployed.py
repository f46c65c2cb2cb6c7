"""The config type ``Deployed``: a folded model, as ``attn-mm fuse`` writes its config and checkpoint."""

from __future__ import annotations

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from attn_mm.graft.fuse import fuse
from attn_mm.registry import MODELS


@MODELS.register_module(name="Deployed")
def deployed(of: str, **model) -> nn.Module:
    """Build a model and fold its norms, so that a folded checkpoint loads.

    To turn a config into the deployed one, set two entries, ``model = dict(type="attn_mm.Deployed",
    of="FCOS")``; the rest of the model stays.

    Args:
        of: the model's type.
        model: the model's options.

    Returns:
        The folded model, in eval mode.
    """
    net = MMENGINE_MODELS.build(dict(type=of, **model))
    fuse(net)
    return net
