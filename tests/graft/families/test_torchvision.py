"""Grafts on torchvision's networks, which here are small ones of each family."""

import copy
import inspect
from functools import partial

import pytest
import torch
from torch import nn
from torch_grafts import assert_equal, check, identity, learn, run, shake

import attn_mm
from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import AttendedMixin, FeedbackMixin
from attn_mm.models.grafting import graft_onto

pytest.importorskip("torchvision")

from torchvision.models import (
    convnext,
    densenet,
    efficientnet,
    mobilenetv2,
    mobilenetv3,
    regnet,
    resnet,
    shufflenetv2,
    vgg,
)
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.googlenet import GoogLeNet
from torchvision.models.video import resnet as video

CLASSES = dict(num_classes=5)
ONE_EACH = [1, 1, 1, 1]


def getter():
    layers = {f"layer{index}": name for index, name in zip((2, 3, 4), "abc")}
    return IntermediateLayerGetter(resnet.ResNet(resnet.BasicBlock, ONE_EACH), layers)


def efficient(config, *rows, **options):
    return efficientnet.EfficientNet([config(*row) for row in rows], 0.0, 0.5, last_channel=32, **options)


def small_vgg():
    with torch.device("meta"):
        net = vgg.VGG(nn.Sequential(), init_weights=False)
    net.features = vgg.make_layers([16, "M", 16, "M", 16, "M", 16, "M", 16, "M"], batch_norm=True)
    net.classifier = nn.Linear(16 * 7 * 7, 5)
    return net


NETWORKS = {
    "ResNet": partial(resnet.ResNet, resnet.BasicBlock, ONE_EACH, **CLASSES),
    "VideoResNet": partial(
        video.VideoResNet,
        video.BasicBlock,
        [video.Conv3DSimple, video.Conv3DNoTemporal, video.Conv2Plus1D, video.Conv2Plus1D],
        ONE_EACH,
        video.R2Plus1dStem,
        **CLASSES,
    ),
    "RegNet": partial(
        regnet.RegNet,
        regnet.BlockParams([1, 2, 1], [16, 24, 32], [8, 8, 8], [1.0, 1.0, 1.0], [2, 2, 2], 0.25),
        **CLASSES,
    ),
    "MobileNetV2": partial(
        mobilenetv2.MobileNetV2,
        inverted_residual_setting=[[1, 16, 1, 1], [4, 16, 2, 2], [4, 24, 1, 2]],
        **CLASSES,
    ),
    "MobileNetV3": lambda: mobilenetv3.MobileNetV3(
        [
            mobilenetv3.InvertedResidualConfig(*row, 1, 1.0)
            for row in (
                (16, 3, 16, 16, True, "RE", 2),
                (16, 3, 32, 24, False, "RE", 2),
                (24, 5, 32, 24, True, "HS", 1),
            )
        ],
        32,
        **CLASSES,
    ),
    "EfficientNet": partial(
        efficient, efficientnet.MBConvConfig, (1, 3, 1, 16, 16, 1), (4, 3, 2, 16, 24, 2), (4, 5, 2, 24, 32, 2)
    ),
    "EfficientNetV2": partial(
        efficient, efficientnet.FusedMBConvConfig, (1, 3, 1, 16, 16, 2), (4, 3, 2, 16, 24, 2)
    ),
    "ConvNeXt": lambda: convnext.ConvNeXt(
        [
            convnext.CNBlockConfig(16, 24, 2),
            convnext.CNBlockConfig(24, 32, 2),
            convnext.CNBlockConfig(32, None, 2),
        ],
        0.5,
        0.3,
        **CLASSES,
    ),
    "DenseNet": partial(densenet.DenseNet, 16, (2, 2, 2, 2), 16, drop_rate=0.2, **CLASSES),
    "ShuffleNetV2": partial(shufflenetv2.ShuffleNetV2, [2, 1, 1], [16, 32, 64, 64, 64], **CLASSES),
    "VGG": small_vgg,
    "GoogLeNet": partial(GoogLeNet, transform_input=True, aux_logits=False, init_weights=False, **CLASSES),
    "IntermediateLayerGetter": getter,
}


WHOLE = {
    *("RegNet", "MobileNetV2", "EfficientNet", "EfficientNetV2", "DenseNet", "VideoResNet", "ConvNeXt"),
    *("IntermediateLayerGetter", "GoogLeNet"),
}
SIZES = {"VideoResNet": (4, 16, 16), "VGG": (64, 64)}
NO_BLOCKS = {"VGG", "GoogLeNet"}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.whole if name in WHOLE else ()) for name in NETWORKS]
)
def network(request):
    plain = shake(NETWORKS[request.param]())
    return request.param, plain, torch.randn(2, 3, *SIZES.get(request.param, (33, 33)))


def test_every_graft(network):
    name, plain, x = network
    grafts = dict(
        layer=dict(type=nn.Identity),
        TD=dict(type="attn_mm.TD", distance=1 if name in ("VideoResNet", "EfficientNetV2") else 2),
        AWConv=dict(type="attn_mm.AWConv", reduction=4),
        TDAF=dict(type="attn_mm.TDAF", flows=2, width=32),
    )
    for kind, graft in grafts.items():
        if name in NO_BLOCKS and kind in ("layer", "TD"):
            with pytest.raises(ConfigError, match=f"{name} has no residual blocks"):
                graft_onto(copy.deepcopy(plain), [graft])
            continue
        net = check(plain, graft, x)
        kinds = dict(layer=AttendedMixin, TD=FeedbackMixin)
        assert kind not in kinds or any(isinstance(module, kinds[kind]) for module in net.modules())


DYNAMIC = "dynamic_shapes" in inspect.signature(torch.onnx.export).parameters
"""Whether torch's exporter to ONNX takes any number of images."""


@pytest.fixture(scope="module")
def attached():
    """A network with attention of every kind, and images for it."""
    torch.manual_seed(0)
    net = shake(NETWORKS["EfficientNet"]())
    grafts = [
        dict(type="AWConv", convs="features.1.*.block.0.0"),
        dict(type="CBAM", position="after_depthwise", stages=(-1,)),
        dict(type="TD", stages=(-1,)),
        dict(type="TDAF", flows=2, width=32),
    ]
    return attn_mm.attach(net, grafts).eval(), torch.randn(3, 3, 48, 48)


@pytest.mark.whole
def test_compiles_whole(attached):
    net, x = attached
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.whole
@pytest.mark.skipif(not DYNAMIC, reason="this torch's exporter takes no dynamic shapes")
def test_exports_to_onnx_with_a_dynamic_batch(attached, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net, x = attached
    path = tmp_path / "net.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net, (x[:2],), dynamic_shapes=batch, strict=False)
    torch.testing.assert_close(program.module()(x), net(x))
    torch.onnx.export(program, (), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 3):
        (found,) = session.run(None, {session.get_inputs()[0].name: x[:count].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), net(x[:count]).detach(), rtol=1e-4, atol=1e-5)


def test_a_detectors_backbone_keeps_its_frozen_norms():
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=3)
    plain, x = copy.deepcopy(backbone), torch.randn(1, 3, 64, 64)
    net = attn_mm.attach(backbone, [dict(type=nn.Identity), dict(type="TD"), dict(type="TDAF", width=32)])
    assert set(plain.state_dict()) <= set(net.state_dict())
    kinds = [type(module) for module in plain.modules()]
    assert sum(kind.__name__ == "FrozenBatchNorm2d" for kind in kinds) == 20
    assert not [name for name, _ in net.named_parameters() if ".td.norms." in name]
    with identity():
        for training in (False, True):
            assert_equal(run(net, x, training), run(plain, x, training))
    assert list(net(x)) == ["0", "1", "2", "3", "pool"]
    frozen = {name for name, parameter in plain.named_parameters() if not parameter.requires_grad}
    learn(net, x)
    assert {name for name, p in net.named_parameters() if p.grad is None} == frozen
