"""The config of a model as it was before attention was put in."""

from __future__ import annotations

import copy

from mmengine.config import Config

AROUND = ("attn_mm.TDAF", "attn_mm.AttnBackbone")
# What replaces a framework's class: the class, and the options that are attention's.
REPLACED = {
    "attn_mm.AttnFPN": ("mmdet.FPN", ("attention",)),
    "attn_mm.TDAFHeatmapHead": (
        "mmpose.HeatmapHead",
        ("flows", "anar", "width", "eta", "first_mask", "flow_inputs"),
    ),
}
CONVS = {"attn_mm.AWConv2d": "Conv2d", "attn_mm.AWConv3d": "Conv3d"}


def without_attention(cfg: Config) -> Config | None:
    """``cfg`` with the plain network; None where its network is plain.

    Taken away is what was put around or between the layers of a framework's network: grafts, attention in an
    FPN or in the deconvolutions of a pose head, AW-convolutions by ``conv_cfg``, layers of attn_mm among
    mmdet's ``plugins``. A network of a paper's own, as LTPA's VGG is, stays what it is.
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
    if kind in AROUND:
        return _plain(node["backbone"])
    if kind in CONVS:
        return {"type": CONVS[kind]}
    plain = {key: _plain(value) for key, value in node.items()}
    if kind in REPLACED:
        plain["type"], options = REPLACED[kind]
        for option in options:
            plain.pop(option, None)
    return plain


def _is_plugin(item) -> bool:
    layer = item.get("cfg") if isinstance(item, dict) else None
    return isinstance(layer, dict) and str(layer.get("type")).startswith("attn_mm.")
