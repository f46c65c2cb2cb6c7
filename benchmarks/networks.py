"""The networks that the benchmarks time: backbones and the grafts on them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Backbone(NamedTuple):
    """A backbone's config and the shape of one input."""

    config: dict[str, Any]
    shape: tuple[int, ...]


BACKBONES = {
    "r18": Backbone(dict(type="mmpretrain.ResNet", depth=18), (3, 224, 224)),
    "r50": Backbone(dict(type="mmpretrain.ResNet", depth=50), (3, 224, 224)),
    "r101": Backbone(dict(type="mmpretrain.ResNet", depth=101), (3, 224, 224)),
    "cifar-r50": Backbone(dict(type="mmpretrain.ResNet_CIFAR", depth=50), (3, 32, 32)),
    "cifar-r18": Backbone(dict(type="mmpretrain.ResNet_CIFAR", depth=18), (3, 32, 32)),
    "cifar-r18-narrow": Backbone(
        dict(type="mmpretrain.ResNet_CIFAR", depth=18, stem_channels=16, base_channels=16), (3, 32, 32)
    ),
    "mobilenet-v3": Backbone(dict(type="mmpretrain.MobileNetV3", arch="large"), (3, 224, 224)),
    "r3d-18": Backbone(
        dict(type="mmaction.ResNet3d", depth=18, pretrained=None, pretrained2d=False, norm_eval=False),
        (3, 8, 112, 112),
    ),
    "tiny": Backbone(dict(type="mmpretrain.ResNet", depth=18, stem_channels=8, base_channels=8), (3, 64, 64)),
}

_TD_101 = dict(type="attn_mm.TD", stages=(2, 3), blocks=((0, 1, 2, 8, 13, 18, 22), "all"))

MODULES: dict[str, list[dict[str, Any]]] = {
    "SE": [dict(type="attn_mm.SE")],
    "CBAM": [dict(type="attn_mm.CBAM")],
    "ECA": [dict(type="attn_mm.ECA")],
    "FCA": [dict(type="attn_mm.FCA")],
    "TAM": [dict(type="attn_mm.TAM")],
    "TD": [dict(type="attn_mm.TD")],
    "TD-top": [dict(type="attn_mm.TD", mode="top")],
    "AW": [dict(type="attn_mm.AWConv")],
    "AW-3x3": [dict(type="attn_mm.AWConv", convs=("3x3",))],
    "TDAF": [dict(type="attn_mm.TDAF")],
    # As the papers' tables have them, see attn_mm/papers.
    "TD-top-m3": [
        dict(type="attn_mm.TD", mode="top", distance=3, stages=(2, 3), blocks=((0, 1, 2, 3, 4), "all"))
    ],
    "TD-r101": [_TD_101],
    "TD-r101-layer4": [dict(type="attn_mm.TD", stages=(3,))],
}
"""The grafts by the name of the attention."""

USUAL = ("TD", "AW", "TAM", "TDAF")

PEERS = {name: [dict(type="attn_mm.TimmLayer", name=name.lower())] for name in ("SE", "CBAM", "ECA")}
"""timm's layers of the same attention, which go to the same places."""


def config(backbone: str, grafts: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The config of ``backbone`` with ``grafts``, or of the plain one."""
    plain = BACKBONES[backbone].config
    if grafts is None:
        return plain
    return dict(type="attn_mm.AttnBackbone", backbone=plain, grafts=grafts)
