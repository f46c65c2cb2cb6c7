"""Jaiswal, Fernando & Tan, TDAM: Top-Down Attention Module for Contextually Guided Feature
Selection in CNNs, ECCV 2022 (https://arxiv.org/abs/2111.13470, there first as TDAN: Top-Down
Attention Networks), table 1."""

from __future__ import annotations

from attn_mm.papers.nets import attended, classifier, resnet, resnet_channels
from attn_mm.papers.published import Row


def _net(depth: int, *grafts) -> dict:
    return classifier(attended(resnet(depth), *grafts), resnet_channels(depth))


def _layer(kind: str) -> dict:
    return dict(type=f"attn_mm.{kind}", position="last")


def _td(depth: int, mode: str, distance: int, **where) -> dict:
    return _net(depth, dict(type="attn_mm.TD", mode=mode, steps=2, distance=distance, **where))


def _row(network: str, model: dict, params: str, macs: str | None = None, note: str = "") -> Row:
    where = "TD, table 1" if macs else "TD, counted"
    return Row(where, network, model, params, macs, convention="full", note=note)


_FEWER_BLOCKS = (
    "In all blocks of layers 3 and 4, as the text says, 27.79 M and 6.20 G; the published figures are those "
    "of blocks 0 to 4 of layer 3 and all of layer 4"
)
_SEVEN_BLOCKS = (
    "The text says 10 blocks of layer 3; the published parameters and multiply-adds both are those of 7 "
    "(0, 1, 2, 8, 13, 18 and 22 here)"
)

_SAME_AS_SE = "49.29 M is what SE has; CBAM's spatial attention adds 3,300"
_MOBILE = (
    "Published as 15% fewer parameters than MobileNetV3-Large, 5.48 M. Where TD stands in its block is not "
    "said; here it takes the place of the SE in the last three"
)


def _mobilenet(*grafts) -> dict:
    backbone = attended(dict(type="MobileNetV3", arch="large"), *grafts)
    head = dict(
        type="StackedLinearClsHead",
        num_classes=1000,
        in_channels=960,
        mid_channels=[1280],
        act_cfg=dict(type="HSwish"),
    )
    return dict(classifier(backbone), head=head)


_FEWER = _td(50, "top", 3, stages=(2, 3), blocks=(range(5), "all"))
_SEVEN = _td(101, "joint", 1, stages=(2, 3), blocks=((0, 1, 2, 8, 13, 18, 22), "all"))
_LAYER_4 = _td(101, "joint", 1, stages=(3,))

ROWS = [
    _row("R50", _net(50), "25.56 M", "4.12 G"),
    _row("R50 SE", _net(50, _layer("SE")), "28.07 M", "4.13 G"),
    _row("R50 CBAM", _net(50, _layer("CBAM")), "28.07 M", "4.14 G"),
    _row("R50 ECA", _net(50, _layer("ECA")), "25.56 M", "4.13 G"),
    _row("R50 FCA-TS", _net(50, _layer("FCA")), "28.07 M", "4.13 G"),
    _row("R50 TD joint, t=2, m=1", _td(50, "joint", 1), "27.65 M", "4.59 G"),
    _row("R50 TD top, t=2, m=1", _td(50, "top", 1), "27.06 M", "4.59 G"),
    _row("R50 TD top, t=2, m=3", _FEWER, "27.66 M", "5.98 G", _FEWER_BLOCKS),
    _row("R101", _net(101), "44.55 M", "7.85 G"),
    _row("R101 SE", _net(101, _layer("SE")), "49.29 M", "7.86 G"),
    _row("R101 CBAM", _net(101, _layer("CBAM")), "49.29 M", "7.88 G", _SAME_AS_SE),
    _row("R101 FCA-TS", _net(101, _layer("FCA")), "49.29 M", "7.86 G"),
    _row("R101 TD joint, t=2, m=1", _SEVEN, "46.75 M", "8.37 G", _SEVEN_BLOCKS),
    _row("R101 TD joint, t=2, m=1, layer 4", _LAYER_4, "45.94 M", "8.01 G"),
    _row("R50 TD joint, t=2, m=1", _td(50, "joint", 1), "27,645,992"),
    _row("R50 TD top, t=2, m=1", _td(50, "top", 1), "27,056,168"),
    _row("R50 TD top, t=2, m=3", _FEWER, "27.655 M"),
    _row("R101 TD joint, t=2, m=1", _SEVEN, "46.755 M"),
    _row("R101 TD joint, t=2, m=1, layer 4", _LAYER_4, "45.938 M"),
    _row("R18 TD top, t=2, m=1", _td(18, "top", 1), "11,774,504"),
    _row("R18 TD top, t=2, m=2", _td(18, "top", 2), "11,767,336"),
    _row("R34 TD joint, t=2, m=1", _td(34, "joint", 1), "22,098,728"),
    _row("R34 TD joint, t=2, m=2", _td(34, "joint", 2), "22,074,152"),
    Row(
        "TD, section 4.4",
        "MobileNetV3-Large TD top, t=2, m=1",
        _mobilenet(dict(type="attn_mm.TD", mode="top", steps=2, distance=1, stages=(12, 13, 14))),
        "4.66 M",
        note=_MOBILE,
    ),
]
