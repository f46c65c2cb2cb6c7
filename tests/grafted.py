"""The backbones and the grafts that the tests combine."""

from __future__ import annotations

import os
from unittest import mock

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

BOTTLENECKS = 50 if "ATTN_MM_WHOLE_MATRIX" in os.environ else 26
"""The depth of the ResNets of bottlenecks: 26 layers have two of them a stage, as 18 have basic blocks."""

NARROW = dict(base_channels=16, stem_channels=16)
FOUR_STAGES = dict(num_stages=4, out_indices=(0, 1, 2, 3), strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
THREE_STAGES = dict(num_stages=3, out_indices=(0, 1, 2), strides=(1, 2, 2), dilations=(1, 1, 1))
GROUPED = {
    "mmdet.ResNeXt": dict(groups=4, base_width=4),
    "mmpose.ResNeXt": dict(groups=4, width_per_group=4),
    "mmpretrain.ResNeXt": dict(groups=4, width_per_group=4),
}
RESNETS = [
    ("mmdet.ResNet", 18),
    ("mmdet.ResNet", BOTTLENECKS),
    ("mmdet.ResNetV1d", BOTTLENECKS),
    ("mmdet.ResNeXt", BOTTLENECKS),
    ("mmpose.ResNet", 18),
    ("mmpose.ResNet", BOTTLENECKS),
    ("mmpose.ResNetV1d", BOTTLENECKS),
    ("mmpose.ResNeXt", BOTTLENECKS),
    ("mmpretrain.ResNet", 18),
    ("mmpretrain.ResNet", BOTTLENECKS),
    ("mmpretrain.ResNetV1c", BOTTLENECKS),
    ("mmpretrain.ResNetV1d", BOTTLENECKS),
    ("mmpretrain.ResNeXt", BOTTLENECKS),
    ("mmpretrain.ResNet_CIFAR", 18),
    ("attn_mm.WideResNet", 10),
    ("mmaction.ResNet", 18),
    ("mmaction.ResNet", BOTTLENECKS),
    ("mmaction.ResNet3d", 18),
    ("mmaction.ResNet3d", BOTTLENECKS),
    ("mmaction.ResNet3dSlowOnly", BOTTLENECKS),
    ("mmaction.ResNet2Plus1d", 18),
]
MOBILE_NETS = [
    ("mmdet.MobileNetV2", None),
    ("mmpose.MobileNetV2", None),
    ("mmpretrain.MobileNetV2", None),
    ("mmpose.MobileNetV3", "big"),
    ("mmpretrain.MobileNetV3", "small"),
    ("mmpretrain.MobileNetV3", "large"),
]
ONE_OF_EACH = [
    ("mmdet.ResNet", BOTTLENECKS),
    ("mmpretrain.ResNet", 18),
    ("mmaction.ResNet", 18),
    ("mmaction.ResNet3d", 18),
]
ONE_OF_EACH_KIND = [
    *ONE_OF_EACH,
    ("mmpretrain.ResNet_CIFAR", 18),
    ("attn_mm.WideResNet", 10),
    ("mmdet.ResNeXt", BOTTLENECKS),
    ("mmaction.ResNet2Plus1d", 18),
    ("mmpretrain.MobileNetV2", None),
    ("mmpretrain.MobileNetV3", "small"),
]
"""With the other stems and blocks."""
GRAFTS = {
    "SE": [dict(type="attn_mm.SE")],
    "CBAM": [dict(type="attn_mm.CBAM")],
    "ECA": [dict(type="attn_mm.ECA", position="after_conv1")],
    "FCA": [dict(type="attn_mm.FCA", stages=(-2, -1))],
    "TAM": [dict(type="attn_mm.TAM")],
    "TD": [dict(type="attn_mm.TD")],
    "TD-top-3-steps": [dict(type="attn_mm.TD", mode="top", steps=3, distance=2, stages=(1, -1))],
    "AW": [dict(type="attn_mm.AWConv")],
    "AW-SE": [dict(type="attn_mm.SE"), dict(type="attn_mm.AWConv")],
    "all": [
        dict(type="attn_mm.TD", stages=(-1,)),
        dict(type="attn_mm.CBAM", stages=(-2, -1), position="after_conv1"),
        dict(type="attn_mm.AWConv", convs=("conv1",), stages=(-2,)),
        dict(type="attn_mm.TAM", stages=(-2, -1)),
    ],
}
MOBILE_GRAFTS = {
    "SE-slot": [dict(type="attn_mm.ECA", position="se")],
    "SE": [dict(type="attn_mm.SE", position="after_depthwise")],
    "TD": [dict(type="attn_mm.TD", mode="top", stages=(-3, -2, -1))],
    "TD-m3": [dict(type="attn_mm.TD", distance=3, stages=(-3, -2, -1))],
    "AW": [dict(type="attn_mm.AWConv", convs=("linear",))],
}

MATRIX = [(b, g) for b in RESNETS for g in GRAFTS] + [(b, g) for b in MOBILE_NETS for g in MOBILE_GRAFTS]
"""Every backbone with every graft; no MobileNetV2 has an SE."""
MATRIX = [(b, g) for b, g in MATRIX if not (b[0].endswith("V2") and g == "SE-slot")]

WITH_EVERY_GRAFT = [("mmdet.ResNet", BOTTLENECKS), ("mmpretrain.MobileNetV3", "small")]
"""The units that a graft tells apart: three convolutions, and mobile blocks with a place for an SE."""
ON_EVERY_BACKBONE = ("all", "TD-m3")
"""Grafts of every kind at once, and the longest feedback of the mobile blocks."""


def is_thin(backbone, graft) -> bool:
    """Whether this pair shows what no other does: the rest only meets the same code again."""
    return backbone in WITH_EVERY_GRAFT or (graft in ON_EVERY_BACKBONE and backbone in ONE_OF_EACH_KIND)


def name(backbone) -> str:
    return "-".join(str(part) for part in backbone if part)


def is_3d(backbone) -> bool:
    return "3d" in backbone[0] or "2Plus1d" in backbone[0]


def with_26_layers(kind: str) -> None:
    """Let the ResNets of this kind, and those made of it, have 26 layers."""
    settings = MODELS.get("mmaction.ResNet3d" if kind == "attn_mm.HaraResNet3d" else kind).arch_settings
    settings.setdefault(26, (settings[50][0], (2, 2, 2, 2)))


def config(backbone, **options) -> dict:
    """A narrow backbone, where it can be; all of its norms train."""
    kind, depth = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    cfg = dict(type=kind, norm_eval=False, **GROUPED.get(kind, {}))
    if "Mobile" in kind:
        cfg |= dict(arch=depth) if depth else dict(widen_factor=0.5)
    elif kind == "attn_mm.WideResNet":
        cfg |= dict(depth=depth, widen_factor=1, out_indices=(0, 1, 2))
    else:
        with_26_layers(kind)
        cfg |= dict(depth=depth, out_indices=(0, 1, 2, 3))
        if kind.startswith("mmaction."):
            cfg |= dict(pretrained=None)
        if kind == "mmaction.ResNet":
            # It can't be narrow; its last stage has three quarters of the parameters.
            cfg |= THREE_STAGES
        if is_3d(backbone):
            cfg |= dict(base_channels=16, pretrained2d=False)
            if "2Plus1d" in kind:
                from mmaction.models import Conv2plus1d

                cfg |= dict(conv_cfg=dict(type=Conv2plus1d))
        elif not kind.startswith("mmaction."):
            cfg |= NARROW
    return cfg | options


def build(backbone, grafts, **options) -> nn.Module:
    return MODELS.build(
        dict(type="attn_mm.AttnBackbone", backbone=config(backbone, **options), grafts=grafts)
    )


TWO_STAGES = dict(num_stages=2, out_indices=(0, 1), dilations=(1, 1))
"""Options of a ResNet that is left with its first half; :func:`build_short` adds the strides."""


def build_short(backbone, grafts, **options) -> nn.Module:
    """The same with one block a stage, or some of a mobile net's."""
    kind, depth = backbone
    upstream = MODELS.get(kind)
    settings = upstream.arch_settings
    if "MobileNetV2" in kind:
        rows = [[expansion, channels, 1, stride] for expansion, channels, _, stride in settings]
        with mock.patch.object(upstream, "arch_settings", rows):
            return build(backbone, grafts)
    if "MobileNetV3" in kind:
        few = [settings[depth][i] for i in (0, 1, 3, 4, -1)]
        with mock.patch.dict(settings, {depth: few}):
            return build(backbone, grafts, out_indices=(len(few) + 1,))
    with_26_layers(kind)
    if "num_stages" in options:
        names = ("spatial_strides", "temporal_strides") if is_3d(backbone) else ("strides",)
        options |= dict.fromkeys(names, (1, 2, 2)[: options["num_stages"]])
    with mock.patch.dict(settings, {depth: (settings[depth][0], (1, 1, 1, 1))}):
        return build(backbone, grafts, **options)


def picture(backbone, batch: int = 2, dtype=torch.float32) -> torch.Tensor:
    size = (4, 33, 33) if is_3d(backbone) else (33, 47)
    return torch.randn(batch, 3, *size, dtype=dtype)


def in_mode(net: nn.Module, training: bool) -> nn.Module:
    """``net`` in training mode or not; upstream's ``train`` returns nothing."""
    net.train(training)
    return net


def outputs(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What ``net`` gives, as a list: mmaction gives a bare tensor for one index."""
    y = net(x)
    return [y] if isinstance(y, torch.Tensor) else list(y)


def shake(net: nn.Module) -> nn.Module:
    """Norms other than at the start, where one is like another."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def settle(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Statistics of the network's own maps, which stay of order 1 then: rounding errors don't grow."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        in_mode(net, True)(x)
    for norm in norms:
        norm.momentum = 0.1
    return in_mode(net, False)


def backward(maps) -> None:
    """Back-propagate a random weighting of the maps, the same whenever the seed is."""
    torch.manual_seed(1)
    sum((torch.randn_like(y) * y).mean() for y in maps).backward()
