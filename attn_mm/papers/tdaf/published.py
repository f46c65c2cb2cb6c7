"""Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021, tables 2-4 and 6
(https://arxiv.org/abs/2012.07248)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from attn_mm.layers import ANAR
from attn_mm.papers.nets import classifier, resnet
from attn_mm.papers.published import Row

_EXTRA_LAYER = (
    "The paper's ResNets and ResNeXts with attention, and none without, have 4.2 M more parameters than "
    "their ANARs: those of a 1x1 convolution from 2048 to 2048 channels, which the text does not mention. "
    "The next row has it"
)
_DECONVOLUTIONS = (
    "A counter that takes a transposed convolution for a convolution at its output's positions, at four "
    "times the cost, gives 5.38, 10.04, 14.76, 5.56 and 20.75 G for R50, R101, R152, RX50 and RX101 with "
    "ANAR-3 in 3 flows and the 1x1"
)
_CUT = "64.55 M and 93.15 M with the last digit cut off"
_DEEPER = "ANAR-5 and -7 as table 1 has them cost 0.06 G more than ANAR-3, not 0.4 G"
_ROUNDED_TWICE = "7.849 G; 7.85 G, rounded once more, is 7.9 G"
_VGG = "VGG16 has 15.47 G in its convolutions and linear layers; what else makes 15.7 G is not said"
_STAGES = "Where the ANARs of a MobileNet stand is not said; here they are behind all its stages but the last"


def _tdaf(backbone: dict, anar: int, flows: int) -> dict:
    return dict(type="attn_mm.TDAF", backbone=backbone, anar=anar, flows=flows)


class _ExtraLayer(nn.Module):
    """A 1x1 convolution of the last map, then the average."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2048, 2048, 1, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        return (self.conv(maps[-1]).mean((-2, -1)),)


def _resnext(depth: int, width: int) -> dict:
    return dict(type="ResNeXt", depth=depth, groups=32, width_per_group=width)


def _anars(channels: Sequence[int], depth: Literal[2, 3, 5, 7], **options) -> list[ANAR]:
    return [ANAR(c, depth, **options) for c in channels]


def _three_anars(depth: Literal[3, 5, 7], dims: Literal[2, 3]) -> nn.ModuleList:
    return nn.ModuleList(_anars((256, 512, 1024), depth, dims=dims))


def _vgg(depth: int) -> dict:
    return dict(type="VGG", depth=depth, num_classes=1000)


def _attended_vgg(depth: int, anar: int, flows: int = 3) -> dict:
    return dict(type="ImageClassifier", backbone=_tdaf(_vgg(depth), anar, flows))


def _mobilenet() -> dict:
    """MobileNet with depthwise ANARs behind all its stages but the last."""
    backbone = _tdaf(dict(type="attn_mm.MobileNetV1"), 3, 2) | dict(depthwise=True)
    return classifier(backbone, 1024)


def _recognizer(depth: int) -> dict:
    """3D-ResNet: 3x3x3 convolutions throughout, a 7x7x7 stem."""
    head = dict(type="I3DHead", num_classes=400, in_channels=2048)
    backbone = dict(type="attn_mm.HaraResNet3d", depth=depth)
    return dict(type="Recognizer3D", backbone=backbone, cls_head=head)


def _attended_recognizer() -> dict:
    model = _recognizer(50)
    return model | dict(backbone=_tdaf(model["backbone"], 5, 3))


def _row(
    table: str, network: str, model, params: str, macs: str | None = None, note: str = "", **options
) -> Row:
    return Row(f"TDAF, table {table}", network, model, params, macs, convention="full", note=note, **options)


def _attended(table: str, network: str, backbone: dict, anar: int, flows: int, params: str, macs: str | None):
    """The network as the text has it, and with the layer that its published parameters need."""
    name = f"{network} ANAR-{anar}, {flows} flows"
    net = classifier(_tdaf(backbone, anar, flows))
    yield _row(table, name, net, params, macs, _EXTRA_LAYER)
    note = "" if macs is None else _DECONVOLUTIONS if anar == 3 else _DEEPER
    if params in ("64.5 M", "93.1 M"):
        note = f"{_CUT}. {note}"
    yield _row(table, f"{name}, with the 1x1", dict(net, neck=dict(type=_ExtraLayer)), params, macs, note)


def _fcos(network: str, config: str, params: str, constants: bool = False) -> Row:
    return _row("4", f"FCOS {network}", f"configs/{config}.py", params, constants=constants, scope="mmdet")


def _plain_vgg(depth: int) -> dict:
    return dict(type="ImageClassifier", backbone=_vgg(depth))


_R50, _R101, _R152 = (resnet(depth) for depth in (50, 101, 152))
_RX50, _RX101 = _resnext(50, 4), _resnext(101, 8)

_COUNTED: tuple[tuple[Literal[3, 5, 7], Literal[2, 3], str], ...] = (
    (3, 2, "164,371"),
    (5, 2, "587,411"),
    (7, 2, "754,067"),
    (5, 3, "1,398,419"),
)

ROWS = [
    # CIFAR-10, with the parameters of the networks for ImageNet
    _row("2", "VGG16", _plain_vgg(16), "138.4 M"),
    _row("2", "VGG16 ANAR-2, 3 flows", _attended_vgg(16, 2), "138.4 M"),
    _row("2", "VGG16 ANAR-3, 3 flows", _attended_vgg(16, 3), "138.5 M"),
    _row("2", "VGG19", _plain_vgg(19), "143.7 M"),
    _row("2", "VGG19 ANAR-3, 3 flows", _attended_vgg(19, 3), "143.8 M"),
    _row("2", "R50", classifier(_R50), "25.6 M"),
    *_attended("2", "R50", _R50, 3, 3, "29.9 M", None),
    _row("2", "R101", classifier(_R101), "44.5 M"),
    *_attended("2", "R101", _R101, 3, 3, "48.9 M", None),
    _row("3a", "VGG16", _plain_vgg(16), "138.4 M", "15.7 G", _VGG),
    _row("3a", "VGG16 ANAR-5, 3 flows", _attended_vgg(16, 5), "138.9 M", "21.6 G", _VGG),
    _row("3a", "VGG16 ANAR-5, 2 flows", _attended_vgg(16, 5, flows=2), "138.9 M", "20.6 G", _VGG),
    _row("3a", "R50", classifier(_R50), "25.6 M", "4.1 G"),
    *_attended("3a", "R50", _R50, 3, 3, "29.9 M", "5.4 G"),
    *_attended("3a", "R50", _R50, 5, 3, "30.3 M", "5.8 G"),
    *_attended("3a", "R50", _R50, 7, 3, "30.5 M", "5.8 G"),
    *_attended("3a", "R50", _R50, 3, 4, "29.9 M", "5.4 G"),
    _row("3a", "R101", classifier(_R101), "44.5 M", "7.9 G", _ROUNDED_TWICE),
    *_attended("3a", "R101", _R101, 3, 3, "48.9 M", "10.0 G"),
    *_attended("3a", "R101", _R101, 3, 4, "48.9 M", "10.0 G"),
    _row("3a", "R152", classifier(_R152), "60.2 M", "11.6 G"),
    *_attended("3a", "R152", _R152, 3, 3, "64.5 M", "14.8 G"),
    _row("3a", "RX50 (32x4d)", classifier(_RX50), "25.0 M", "4.3 G"),
    *_attended("3a", "RX50 (32x4d)", _RX50, 3, 3, "29.4 M", "5.6 G"),
    _row("3a", "RX101 (32x8d)", classifier(_RX101), "88.8 M", "16.5 G"),
    *_attended("3a", "RX101 (32x8d)", _RX101, 3, 3, "93.1 M", "20.8 G"),
    Row("TDAF, table 3a", "MobileNet", classifier(dict(type="attn_mm.MobileNetV1"), 1024), "4.2 M", "0.57 G"),
    Row("TDAF, table 3a", "MobileNet ANAR-3, 2 flows", _mobilenet(), "5.1 M", "0.71 G", note=_STAGES),
    _fcos("R50", "tdaf/fcos-r50_plain_coco", "32.244 M", constants=True),
    _fcos("R50 ANAR-3, 3 flows", "fcos_tdaf_r50", "32.462 M"),
    _fcos("R50 ANAR-5, 3 flows", "tdaf/fcos-r50_tdaf-anar5_coco", "32.885 M"),
    _fcos("R101", "tdaf/fcos-r101_plain_coco", "51.184 M", constants=True),
    _fcos("R101 ANAR-3, 3 flows", "tdaf/fcos-r101_tdaf-anar3_coco", "51.454 M"),
    _fcos("R101 ANAR-3, 4 flows", "tdaf/fcos-r101_tdaf-anar3-4flows_coco", "51.454 M"),
    _fcos("R101 ANAR-5, 3 flows", "tdaf/fcos-r101_tdaf-anar5_coco", "51.877 M"),
    _row("6", "3D-R50", _recognizer(50), "47.019 M", scope="mmaction"),
    _row("6", "3D-R101", _recognizer(101), "86.065 M", scope="mmaction"),
    _row("6", "3D-R50 ANAR-5, 3 flows", _attended_recognizer(), "48.417 M", scope="mmaction"),
    *(
        Row(
            "TDAF, counted",
            f"three ANAR-{depth}{' in 3D' if dims == 3 else ''}",
            partial(_three_anars, depth, dims),
            figure,
        )
        for depth, dims, figure in _COUNTED
    ),
]
