"""Grafts on timm's networks, which here are small ones of each family."""

import copy
import inspect
from functools import partial

import pytest
import torch
from torch import nn
from torch_grafts import check, shake

import attn_mm
from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import AttendedMixin, FeedbackMixin
from attn_mm.models.grafting import graft_onto

pytest.importorskip("timm")

from timm.layers import BlurPool2d
from timm.models import convnext, cspnet, densenet, dla, efficientnet, hrnet, regnet, resnet, sknet
from timm.models._efficientnet_builder import decode_arch_def
from timm.models._features import FeatureDictNet

CLASSES = dict(num_classes=5)
CHANNELS = (16, 32, 32, 32)


def small_resnet(**options):
    return resnet.ResNet(resnet.Bottleneck, (1, 1, 1, 1), channels=(16, 16, 16, 16), **CLASSES, **options)


def hrnet_config():
    def stage(branches, block):
        channels = CHANNELS[:branches]
        return dict(
            num_modules=1,
            num_branches=branches,
            block_type=block,
            num_blocks=(1,) * branches,
            num_channels=channels,
            fuse_method="SUM",
        )

    stages = [stage(1, "BOTTLENECK"), *(stage(branches, "BASIC") for branches in (2, 3, 4))]
    return dict(stem_width=16, **{f"stage{index}": given for index, given in enumerate(stages, 1)})


NETWORKS = {
    "ResNet": partial(
        small_resnet,
        aa_layer=BlurPool2d,
        block_args=dict(attn_layer="se"),
        drop_path_rate=0.3,
        drop_block_rate=0.1,
    ),
    "RegNet": lambda: regnet.RegNet(
        regnet.RegNetCfg(depth=5, w0=16, wa=10.0, wm=1.6, group_size=8, se_ratio=0.25),
        drop_path_rate=0.3,
        **CLASSES,
    ),
    "EfficientNet": lambda: efficientnet.EfficientNet(
        decode_arch_def(
            [
                ["ds_r1_k3_s1_e1_c16_se0.25"],
                ["ir_r2_k3_s2_e4_c24_se0.25"],
                ["er_r2_k3_s2_e4_c24"],
                ["uir_r2_a3_k5_s2_e4_c32"],
                ["cn_r1_k1_s1_c32"],
            ]
        ),
        stem_size=16,
        num_features=32,
        drop_path_rate=0.3,
        **CLASSES,
    ),
    "ConvNeXt": lambda: convnext.ConvNeXt(
        depths=(1, 1, 1, 1), dims=CHANNELS, use_grn=True, ls_init_value=0.5, drop_path_rate=0.3, **CLASSES
    ),
    "ConvNeXt-conv": lambda: convnext.ConvNeXt(
        depths=(1, 1, 1, 1), dims=CHANNELS, conv_mlp=True, ls_init_value=None, **CLASSES
    ),
    "CspNet": lambda: cspnet.CspNet(
        cspnet.CspModelCfg(
            stem=cspnet.CspStemCfg(out_chs=(16, 16), stride=4),
            stages=cspnet.CspStagesCfg(
                depth=(1, 2),
                out_chs=(32, 64),
                stride=(1, 2),
                expand_ratio=2.0,
                bottle_ratio=0.5,
                block_type=("bottle", "dark"),
                stage_type=("csp", "cs3"),
            ),
        ),
        drop_path_rate=0.3,
        **CLASSES,
    ),
    "DLA": lambda: dla.DLA((1, 1, 1, 2, 1, 1), (16, 16, 16, 16, 32, 32), block=dla.DlaBottleneck, **CLASSES),
    "HighResolutionNet": lambda: hrnet.HighResolutionNetFeatures(hrnet_config(), feature_location=""),
    "DenseNet": lambda: densenet.DenseNet(growth_rate=16, block_config=(2, 2, 2, 2), **CLASSES),
    "SK-ResNet": lambda: resnet.ResNet(
        sknet.SelectiveKernelBottleneck,
        (1, 1, 1, 1),
        channels=(16, 16, 16, 16),
        drop_path_rate=0.3,
        **CLASSES,
    ),
    "SK-ResNet-basic": lambda: resnet.ResNet(
        sknet.SelectiveKernelBasic,
        (1, 1, 1, 1),
        channels=(16, 16, 16, 16),
        block_args=dict(attn_layer="se", sk_kwargs=dict(split_input=False)),
        aa_layer=BlurPool2d,
        **CLASSES,
    ),
    "FeatureDictNet": lambda: FeatureDictNet(small_resnet(), out_indices=(1, 2, 3, 4)),
}


ONE_UNIT = {"EfficientNet", "ResNet", "SK-ResNet", "SK-ResNet-basic"}
WHOLE = {
    "EfficientNet",
    "RegNet",
    "DLA",
    "ConvNeXt-conv",
    "HighResolutionNet",
    "DenseNet",
    "FeatureDictNet",
    "SK-ResNet",
    "SK-ResNet-basic",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.whole if name in WHOLE else ()) for name in NETWORKS]
)
def test_every_graft(name):
    plain, x = shake(NETWORKS[name]()), torch.randn(2, 3, 64, 64)
    grafts = dict(
        layer=dict(type=nn.Identity),
        # Some have no second unit; a second run of a dropped block would drop others.
        TD=dict(type="attn_mm.TD", distance=1 if name in ONE_UNIT else 2),
        AWConv=dict(type="attn_mm.AWConv", reduction=4),
        TDAF=dict(type="attn_mm.TDAF", flows=2, width=32),
    )
    for kind, graft in grafts.items():
        if name == "HighResolutionNet" and kind == "TDAF":
            with pytest.raises(ConfigError, match="is no known chain of stages"):
                graft_onto(copy.deepcopy(plain), [graft])
            continue
        net = check(plain, graft, x)
        kinds = dict(layer=AttendedMixin, TD=FeedbackMixin)
        assert kind not in kinds or any(isinstance(module, kinds[kind]) for module in net.modules())


def test_a_classifier_with_flows_runs_no_other_way():
    net = attn_mm.attach(small_resnet(), dict(type="TDAF", flows=2, width=32)).eval()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(net.forward_head(net.forward_features(x)), net(x))
    with pytest.raises(RuntimeError, match="attach it to a features_only network"):
        net.forward_intermediates(x)
    with pytest.raises(RuntimeError, match="outside their flow"):
        net.set_grad_checkpointing()
    net.set_grad_checkpointing(False)
    checkpointing = small_resnet()
    checkpointing.set_grad_checkpointing()
    with pytest.raises(ConfigError, match="outside their flow: switch it off"):
        attn_mm.attach(checkpointing, "TDAF")


@pytest.fixture(scope="module")
def attached():
    """A network with attention of every kind, and images for it."""
    torch.manual_seed(0)
    net = shake(NETWORKS["RegNet"]())
    grafts = [
        dict(type="AWConv", stages=(0,)),
        dict(type="SE", after="s3.*"),
        dict(type="TD", stages=(-1,), distance=2),
        dict(type="TDAF", flows=2, width=32),
    ]
    return attn_mm.attach(net, grafts).eval(), torch.randn(3, 3, 64, 64)


@pytest.mark.whole
def test_compiles_whole(attached):
    net, x = attached
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.whole
@pytest.mark.skipif(
    "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters,
    reason="this torch's exporter takes no dynamic shapes",
)
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
