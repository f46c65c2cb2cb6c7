"""The config of a model as it was before attention was put in.

A class that is registered in the scope ``attn_mm`` says by a method what its config was::

    @classmethod
    def without_attention(cls, config: dict) -> dict:
        return {"type": "Conv2d"}

A function says so by the decorator :func:`attn_mm.registry.attention_around`.
"""

from __future__ import annotations

import copy

from mmengine.config import Config

from attn_mm.registry import MODELS

SCOPE = "attn_mm."


def without_attention(cfg: Config) -> Config | None:
    """``cfg`` with the plain network; None where its network is plain.

    Taken away is what was put around or between the layers of a framework's network: grafts, attention in an
    FPN or in the deconvolutions of a pose head, convolutions that attend by ``conv_cfg``, layers of attn_mm
    among mmdet's ``plugins``. A network of a paper's own, as LTPA's VGG is, stays what it is.
    """
    plain = copy.deepcopy(cfg)
    plain.model = _plain(plain.model)
    return None if plain.model == cfg.model else plain


def _plain(node):
    if isinstance(node, (list, tuple)):
        kept = [_plain(item) for item in node if not _is_plugin(item)]
        return type(node)(kept)
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    if _is_ours(kind):
        remove = getattr(MODELS.get(kind), "without_attention", None)
        if remove is not None:
            return _plain(remove(node))
    return {key: _plain(value) for key, value in node.items()}


def _is_plugin(item) -> bool:
    layer = item.get("cfg") if isinstance(item, dict) else None
    return isinstance(layer, dict) and _is_ours(layer.get("type"))


def _is_ours(kind) -> bool:
    return isinstance(kind, str) and kind.startswith(SCOPE)
