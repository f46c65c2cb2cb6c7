"""Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), tables 1 and 2."""

from __future__ import annotations

from attn_mm.papers.nets import attended, cifar_resnet, classifier, resnet
from attn_mm.papers.published import Row

_AW = dict(type="attn_mm.AWConv", convs=("conv2",))
_AW_POINTWISE = dict(_AW, convs=("pointwise",))
_SE = dict(type="attn_mm.SE", position="last", bias=True)
_CBAM = dict(type="attn_mm.CBAM", position="last", bias=True)
_CHANNELS_ONLY = dict(_CBAM, spatial=False)
_AVERAGE_ONLY = dict(_CBAM, max_pool=False)


def _imagenet(depth: int, *grafts) -> dict:
    # The published multiply-adds are those of strides in the 1x1 convolutions.
    return classifier(attended(resnet(depth, style="caffe"), *grafts))


def _cifar(*grafts) -> dict:
    return classifier(attended(cifar_resnet(50, style="caffe"), *grafts), classes=100)


def _in_mobilenet(layer: dict) -> list[dict]:
    return [dict(layer, position=f"after_{conv}") for conv in ("depthwise", "pointwise")]


def _mobilenet(*grafts) -> dict:
    return classifier(attended(dict(type="attn_mm.MobileNetV1"), *grafts), 1024)


def _wide(*convs: str) -> dict:
    """The attention-augmented wide ResNet with AW-convolutions for the named ones."""
    backbone = dict(
        type="attn_mm.WideResNet",
        depth=10,
        widen_factor=10,
        strides=(1, 1, 2),
        aa=dict(dk=0.2, dv=0.1, heads=8, qkv_kernel_size=3),
    )
    return classifier(attended(backbone, *(dict(type="attn_mm.AWConv", convs=(c,)) for c in convs)), 640, 100)


def _pyramid(**options) -> dict:
    return dict(type="FPN", in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5, **options)


_UNSAID = (
    "What the published multiply-adds of attention modules include is not said; convolutions and linear "
    "layers alone, which give the plain networks' figures, are this much"
)
_DEEPER = (
    "AW-convolutions for every 3x3 of R101, as for R50, make 44.86 M; no one setting for all of them makes "
    "44.95 M"
)
_NARROW = (
    "8.43 M is the wide ResNet of depth 10 and width 10, not 28-10 as the text says, on maps of 32, 32 and "
    "16 positions a side (on 32, 16 and 8, as in other wide ResNets, it would have 1.2 G); what else makes "
    "3.89 G is not said"
)


def _note(network: str) -> str:
    if "AA-Wide" in network:
        return _NARROW
    if "AW" in network and "R101" in network:
        return f"{_DEEPER}. {_UNSAID}"
    return _UNSAID if any(name in network for name in ("AW", "SE", "CBAM")) else ""


def _row(table: int, network: str, model: dict, params: str, macs: str, shape: tuple[int, ...]) -> Row:
    return Row(f"AW, table {table}", network, model, params, macs, shape=shape, note=_note(network))


_TABLE_1 = (
    ("R50", _imagenet(50), "25.56 M", "3.86 G"),
    ("AW-R50", _imagenet(50, _AW), "25.72 M", "3.87 G"),
    ("SE-R50", _imagenet(50, _SE), "28.09 M", "3.87 G"),
    ("AW-SE-R50", _imagenet(50, _AW, _SE), "28.25 M", "3.88 G"),
    ("AW-CBAM-R50 (MaxPool)", _imagenet(50, _AW, _CHANNELS_ONLY), "28.25 M", "3.89 G"),
    ("AW-CBAM-R50 (Spatial)", _imagenet(50, _AW, _AVERAGE_ONLY), "28.25 M", "3.90 G"),
    ("R101", _imagenet(101), "44.55 M", "7.57 G"),
    ("AW-R101", _imagenet(101, _AW), "44.95 M", "7.58 G"),
    ("SE-R101", _imagenet(101, _SE), "49.33 M", "7.58 G"),
    ("AW-SE-R101", _imagenet(101, _AW, _SE), "49.73 M", "7.59 G"),
    ("AW-CBAM-R101 (MaxPool)", _imagenet(101, _AW, _CHANNELS_ONLY), "49.73 M", "7.60 G"),
    ("AW-CBAM-R101 (Spatial)", _imagenet(101, _AW, _AVERAGE_ONLY), "49.73 M", "7.61 G"),
    ("MobileNet", _mobilenet(), "4.23 M", "0.569 G"),
    ("SE-MobileNet", _mobilenet(*_in_mobilenet(_SE)), "5.07 M", "0.581 G"),
    ("AW-SE-MobileNet", _mobilenet(_AW_POINTWISE, *_in_mobilenet(_SE)), "5.52 M", "0.623 G"),
    ("CBAM-MobileNet", _mobilenet(*_in_mobilenet(_CBAM)), "5.07 M", "0.611 G"),
    (
        "AW-CBAM-MobileNet (Spatial)",
        _mobilenet(_AW_POINTWISE, *_in_mobilenet(_AVERAGE_ONLY)),
        "5.52 M",
        "0.652 G",
    ),
)
_TABLE_2 = (
    ("AA-Wide-R", _wide(), "8.43 M", "3.89 G"),
    ("AW-AA-Wide-R-0", _wide("conv2"), "8.50 M", "3.90 G"),
    ("AW-AA-Wide-R-1", _wide("conv1.conv"), "8.48 M", "3.89 G"),
    ("AW-AA-Wide-R-2", _wide("conv1.qkv"), "8.45 M", "3.89 G"),
    ("AW-AA-Wide-R-3", _wide("conv1.out"), "8.44 M", "3.89 G"),
    ("R50", _cifar(), "23.71 M", "1.22 G"),
    ("AW-R50", _cifar(_AW), "23.87 M", "1.23 G"),
    ("SE-R50", _cifar(_SE), "26.24 M", "1.23 G"),
    ("AW-SE-R50", _cifar(_AW, _SE), "26.40 M", "1.24 G"),
    ("CBAM-R50", _cifar(_CBAM), "26.24 M", "1.24 G"),
    ("AW-CBAM-R50", _cifar(_AW, _CBAM), "26.40 M", "1.25 G"),
)

ROWS = [
    *(_row(1, *cells, (3, 224, 224)) for cells in _TABLE_1),
    *(_row(2, *cells, (3, 32, 32)) for cells in _TABLE_2),
    Row(
        "AW, counted",
        "AW-FPN on R101, added",
        _pyramid(conv_cfg=dict(type="attn_mm.AWConv2d")),
        "114,944",
        scope="mmdet",
        minus=_pyramid(),
    ),
]
