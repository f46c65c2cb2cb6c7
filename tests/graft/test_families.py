"""Every registered backbone with each kind of graft: taken and exact with identity gates, or refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.describe.registered import RECIPES, config
from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import AttendedMixin

FRAMEWORKS = ("mmdet", "mmpose", "mmaction", "mmpretrain", "mmseg")
NO_RECIPE = {"mmseg.DeconvModule", "mmseg.InterpConv", "mmseg.VPD"}
"""Parts of UNet among mmseg's backbones, and one that needs the library ldm."""

# One small network of each file of attn_mm/graft/families, and one of each way to find blocks.
THIN = {
    "mmaction.MobileNetV2TSM",
    "mmaction.ResNetAudio",
    "mmdet.CSPNeXt",
    "mmdet.HRNet",
    "mmdet.Res2Net",
    "mmpose.LiteHRNet",
    "mmpose.RSN",
    "mmpose.ShuffleNetV1",
    "mmpose.V2VNet",
    "mmpose.ViPNAS_ResNet",
    "mmpretrain.ConvNeXt",
    "mmpretrain.DenseNet",
    "mmpretrain.HorNet",
    "mmpretrain.MobileOne",
    "mmpretrain.MobileViT",
}
THIN_GRAFTED = {
    "mmdet.CSPNeXt",
    "mmdet.HRNet",
    "mmdet.MobileNetV2",
    "mmpose.ShuffleNetV2",
    "mmpretrain.ConvNeXt",
}
GRAFTS: dict[str, dict[str, Any]] = {
    "layer": dict(type="attn_mm.SE"),
    "TD": dict(type="attn_mm.TD"),
    "TDAF": dict(type="attn_mm.TDAF", flows=2),
    "AWConv": dict(type="attn_mm.AWConv"),
}


def scoped(framework: str, names: str) -> set[str]:
    return {f"{framework}.{name}" for name in names.split()}


# Networks of tokens, graphs and plain convolutions, and blocks that are not described.
NO_BLOCKS = {
    *scoped(
        "mmaction",
        "AAGCN C3D MViT STGCN SwinTransformer3D TimeSformer UniFormerV2 VisionTransformer ",
    ),
    *scoped(
        "mmdet",
        "PyramidVisionTransformer PyramidVisionTransformerV2 SSDVGG SwinTransformer TridentResNet ",
    ),
    *scoped(
        "mmpose",
        "AlexNet DSTFormer HourglassAENet PyramidVisionTransformer PyramidVisionTransformerV2 "
        "SwinTransformer TCN VGG ",
    ),
    *scoped(
        "mmpretrain",
        "AlexNet BEiTViT Conformer ConvMixer DaViT DeiT3 DistilledVisionTransformer HiViT InceptionV3 LeNet5 "
        "LeViT MViT MixMIMTransformer MlpMixer PCPVT RevVisionTransformer SVT SparseConvNeXt SwinTransformer "
        "SwinTransformerV2 T2T_ViT TNT VGG ViTEVA02 ViTSAM VisionTransformer XCiT ",
    ),
    *scoped(
        "mmseg",
        "BEiT BiSeNetV2 CGNet ERFNet MAE MSCAN MixVisionTransformer PCPVT STDCContextPathNet STDCNet SVT "
        "SwinTransformer UNet VisionTransformer ",
    ),
}
# Networks that don't run one stage after the other, or not on maps of any size, or with norms of their own.
NO_STAGES = {
    *scoped(
        "mmaction",
        "AAGCN MViT RGBPoseConv3D ResNet3dLayer ResNet3dSlowFast STGCN SwinTransformer3D TimeSformer "
        "UniFormerV2 VisionTransformer ",
    ),
    *scoped(
        "mmdet",
        "DetectoRS_ResNeXt DetectoRS_ResNet HRNet HourglassNet PyramidVisionTransformer "
        "PyramidVisionTransformerV2 SwinTransformer ",
    ),
    *scoped(
        "mmpose",
        "CPM DSTFormer HRFormer HRNet HourglassAENet HourglassNet LiteHRNet MSPN PyramidVisionTransformer "
        "PyramidVisionTransformerV2 RSN SwinTransformer TCN V2VNet ",
    ),
    *scoped(
        "mmpretrain",
        "BEiTViT Conformer ConvMixer DaViT DeiT3 DistilledVisionTransformer EfficientFormer HRNet HiViT "
        "LeViT MViT MixMIMTransformer MlpMixer PCPVT PyramidVig RepMLPNet "
        "RevVisionTransformer SVT SparseConvNeXt SparseResNet SwinTransformer SwinTransformerV2 T2T_ViT TNT "
        "TinyViT ViTEVA02 ViTSAM Vig VisionTransformer XCiT ",
    ),
    *scoped(
        "mmseg",
        "BEiT BiSeNetV1 BiSeNetV2 CGNet DDRNet ERFNet FastSCNN HRNet ICNet MAE MSCAN MixVisionTransformer "
        "PCPVT PIDNet STDCContextPathNet STDCNet SVT SwinTransformer UNet VisionTransformer ",
    ),
}
REFUSED = {"layer": NO_BLOCKS, "TD": NO_BLOCKS, "TDAF": NO_STAGES}


class Same(nn.Module):
    """An identity gate."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def networks(thin: set[str]) -> list:
    return [pytest.param(name, marks=() if name in thin else pytest.mark.whole) for name in RECIPES]


def build(name: str, *grafts: dict[str, Any]) -> Any:
    pytest.importorskip(f"{name.partition('.')[0]}.models")
    if name.endswith(".TIMMBackbone"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    inner = config(name)
    if grafts:
        inner = dict(type="attn_mm.AttnBackbone", backbone=inner, grafts=list(grafts))
    net = MODELS.build(inner)
    if name == "mmdet.TridentResNet":
        # mmdet never initialises its dilated convolutions, which hold any numbers without a checkpoint.
        for name, weight in net.named_parameters():
            if name.startswith("layer3.") and name.endswith(".conv2.weight"):
                nn.init.kaiming_uniform_(weight)
    return net


EXPLODING = ("mmpretrain.RepLKNet",)
"""Untrained, their gradients exceed float32: every norm of two pooled values multiplies them."""


def example(name: str) -> list[Tensor]:
    if RECIPES[name].cannot_run:
        pytest.skip(RECIPES[name].cannot_run)
    torch.manual_seed(1)
    return [torch.randn(shape) for shape in RECIPES[name].inputs]


def run(net: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(2)
    return list(tensors(net(*[x.clone() for x in inputs])))


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def one_line(error: ConfigError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 200


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_registered_backbone_has_a_recipe(framework):
    pytest.importorskip(f"{framework}.models")
    found = importlib.import_module(f"{framework}.registry").MODELS.module_dict
    names = {
        f"{framework}.{name}"
        for name, cls in found.items()
        if getattr(cls, "__module__", "").startswith(f"{framework}.models.backbones")
    }
    assert names - NO_RECIPE == {name for name in RECIPES if name.startswith(f"{framework}.")}


@pytest.mark.parametrize("name", networks(THIN))
def test_identity_gates_change_nothing(name):
    plain = build(name)
    try:
        grafted = build(name, dict(type=Same))
    except ConfigError as error:
        one_line(error)
        pytest.skip(str(error))
    for norm in plain.modules():
        if isinstance(norm, _BatchNorm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.normal_(norm.running_mean)
    assert any(isinstance(module, AttendedMixin) for module in grafted.modules())
    grafted.load_state_dict(plain.state_dict())
    inputs = example(name)
    for mode in (False, True):
        outs = [run(net.train(mode) or net, inputs) for net in (plain, grafted)]
        assert len(outs[0]) == len(outs[1]) > 0
        for expected, out in zip(*outs):
            assert torch.equal(out, expected)


@pytest.mark.parametrize("graft", GRAFTS)
@pytest.mark.parametrize("name", networks(THIN_GRAFTED))
def test_grafts_learn_or_are_refused(name, graft):
    plain = set(build(name).state_dict())
    try:
        net = build(name, GRAFTS[graft])
    except ConfigError as error:
        # What AWConv changes by default, no family decides.
        assert name in REFUSED.get(graft, RECIPES), error
        one_line(error)
        return
    assert name not in REFUSED.get(graft, ())
    lost = plain - set(net.state_dict())
    # TD takes the place of a block's SE.
    assert not lost or (graft == "TD" and all(".se." in key for key in lost))
    inputs = example(name)
    if name in EXPLODING:
        net, inputs = net.double(), [x.double() for x in inputs]
    net.train()
    sum(out.square().mean() for out in run(net, inputs)).backward()
    new = {key: p for key, p in net.named_parameters() if key not in plain}
    assert new
    assert [key for key, p in new.items() if p.grad is None or not p.grad.isfinite().all()] == []
