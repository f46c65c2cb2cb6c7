"""Remove the attention from a model's config.

A class that is registered in the scope ``attn_mm`` returns its plain config from a method::

    @classmethod
    def without_attention(cls, config: dict) -> dict:
        return {"type": "Conv2d"}

A function does so with the decorator :func:`attn_mm.registry.attention_around`.
"""

from __future__ import annotations

import copy

from mmengine.config import Config

from attn_mm.registry import MODELS

SCOPE = "attn_mm."


def without_attention(cfg: Config) -> Config | None:
    """Return ``cfg`` with the plain network, or None if its network is plain already.

    Removes what attn_mm adds to a framework's network: grafts, attention in an FPN or in the deconvolutions
    of a pose head, attention convolutions in ``conv_cfg``, and attn_mm layers in mmdet's ``plugins``. A
    network that a paper defines itself, such as LTPA's VGG, isn't changed.
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
