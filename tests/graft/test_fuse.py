"""Folded networks compute what they computed before: every graft, every framework, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from grafted import GRAFTS, MOBILE_GRAFTS, build, name, outputs, picture, shake
from mmengine.registry import MODELS, DefaultScope
from thinned import thinned
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.graft.fold import FlowConv, fold, why_not
from attn_mm.graft.fuse import FoldedFeedbackMixin, fuse
from attn_mm.layers import AAConv2d, AWConv2d, MFBN2d, flow

FLOWS = {
    "TDAF": [dict(type="attn_mm.TDAF", width=64)],
    "TDAF-all": [
        dict(type="attn_mm.TDAF", width=64, anar=7, flows=2),
        dict(type="attn_mm.TD", steps=3, stages=(-1,)),
        dict(type="attn_mm.AWConv", stages=(1,)),
        dict(type="attn_mm.CBAM", stages=(0,)),
    ],
    "TD-m0": [dict(type="attn_mm.TD", distance=0)],
    "TD-AW": [dict(type="attn_mm.TD"), dict(type="attn_mm.AWConv")],
    "FlowPyramid": [dict(type="attn_mm.FlowPyramid", flows=2)],
    "MultiScale": [dict(type="attn_mm.MultiScale")],
}
CASES = [(("mmdet.ResNet", 18), graft) for graft in (*GRAFTS, *FLOWS)]
CASES += [(("mmpretrain.ResNet", 50), graft) for graft in ("TD", "TD-top-3-steps", "all", "TDAF-all")]
CASES += [
    (("mmpose.ResNetV1d", 50), "TD"),
    (("mmaction.ResNet", 18), "TD"),
    (("mmaction.ResNet", 18), "TDAF"),
]
CASES += [(("mmaction.ResNet3d", 18), "all"), (("mmaction.ResNet3d", 18), "TDAF")]
CASES += [(("mmpretrain.ResNet_CIFAR", 18), "TAM"), (("attn_mm.WideResNet", 10), "TDAF")]
CASES += [(("mmpretrain.MobileNetV3", "small"), graft) for graft in ("SE", "TD-m3", "AW")]
CASES += [(("mmdet.MobileNetV2", None), "TD")]
# Each kind of graft and of block once: several grafts in one network where they allow it.
SHOWN = [
    (("mmdet.ResNet", 18), graft)
    for graft in ("ECA", "FCA", "all", "TD-m0", "TD-AW", "TDAF-all", "MultiScale")
]
SHOWN += [(("mmpretrain.ResNet", 50), "TD-top-3-steps"), (("mmpose.ResNetV1d", 50), "TD")]
SHOWN += [(("mmaction.ResNet", 18), "TDAF"), (("mmaction.ResNet3d", 18), "all")]
SHOWN += [(("attn_mm.WideResNet", 10), "TDAF"), (("mmpretrain.MobileNetV3", "small"), "TD-m3")]


def norms(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, _BatchNorm)]


def grafted(backbone, graft) -> nn.Module:
    table = MOBILE_GRAFTS if "Mobile" in backbone[0] else GRAFTS | FLOWS
    return shake(build(backbone, copy.deepcopy(table[graft]))).double()


def assert_same(maps, expected, share=1e-10):
    assert len(maps) == len(expected)
    for y, reference in zip(maps, expected):
        assert (y - reference).abs().max() <= share * reference.abs().max()


@pytest.mark.parametrize(
    "backbone, graft", thinned(CASES, SHOWN, True), ids=[f"{name(b)}-{g}" for b, g in CASES]
)
def test_is_exact_and_leaves_no_norm(backbone, graft):
    net = grafted(backbone, graft)
    net.eval()
    x = picture(backbone, batch=2, dtype=torch.float64)
    if "TDAF" in graft and x.dim() == 5:
        # The first flow's clip has a quarter of the frames.
        x = torch.cat([x, x], dim=2)
    folded = copy.deepcopy(net)
    fused = fuse(folded)
    assert fused.folded == len(norms(net)) and not fused.left and not norms(folded)
    with torch.no_grad():
        assert_same(outputs(folded, x), outputs(net, x))


@pytest.mark.parametrize("graft", ["TD-top-3-steps", "TDAF-all"])
def test_the_state_fits_a_network_folded_before_it_was_trained(graft):
    net = grafted(("mmdet.ResNet", 18), graft)
    other = grafted(("mmdet.ResNet", 18), graft)
    fuse(net)
    fuse(other)
    other.load_state_dict(net.state_dict())
    x = picture(("mmdet.ResNet", 18), dtype=torch.float64)
    with torch.no_grad():
        assert_same(outputs(copy.deepcopy(other), x), outputs(net, x), share=0)


def test_the_first_matrix_of_feedback_is_in_the_convolution():
    net = grafted(("mmpretrain.ResNet", 50), "TD")
    fuse(net)
    block = net.layer4[-1]
    assert isinstance(block, FoldedFeedbackMixin)
    (top,) = block.td.tops
    # C_N // 16 channels instead of C_N: the rest is never made.
    assert top.conv.out_channels == block.conv3.out_channels // 16 and top.mlp is None


def test_a_flow_has_no_copy_of_a_stage_that_it_skips():
    net = grafted(("mmdet.ResNet", 18), "TDAF")
    fuse(net)
    # Three flows, four stages: flow n from 0 runs the first n + 2.
    for stage, flows in enumerate(["012", "012", "12", "2"], 1):
        conv = getattr(net, f"layer{stage}")[0].conv1
        assert "".join(conv.convs) == flows if len(flows) > 1 else type(conv) is nn.Conv2d
    assert "".join(net.conv1.convs) == "012"
    # An ANAR attends the next flow: the last has nothing to attend.
    assert "".join(net.anars[0].reduce[0].convs) == "01"
    assert type(net.anars[2].reduce[0]) is nn.Conv2d


def test_training_is_over():
    net = grafted(("mmdet.ResNet", 18), "AW")
    fuse(net)
    net.train()
    x = picture(("mmdet.ResNet", 18), dtype=torch.float64)
    expected = outputs(net, x)
    net.eval()
    assert_same(outputs(net, x), expected, share=1e-12)


def test_what_is_not_known_stays():
    net = grafted(("mmdet.ResNet", 18), "TD")
    block = net.layer3[0]
    block.conv2.register_forward_hook(lambda module, args, output: output)
    block.bn1.running_mean = block.bn1.running_var = None
    net.layer1[0].conv1 = nn.utils.parametrizations.weight_norm(net.layer1[0].conv1)
    fused = fuse(net)
    assert fused.left == {
        "layer1.0.bn1": "the weight of the ParametrizedConv2d before it is parametrized",
        "layer3.0.bn1": "BatchNorm2d has no running statistics",
        "layer3.0.bn2": "Conv2d has hooks or a replaced forward, which would be lost",
        "layer3.0.td.norms.0.conv2": "Conv2d has hooks or a replaced forward, which would be lost",
    }


def test_a_norm_before_a_convolution_stays():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    shake(net).eval()
    with torch.no_grad():
        expected = net(x)
        assert fuse(net).folded == 0
        assert_same([net(x)], [expected], share=0)


def test_a_convolution_of_two_norms_is_copied():
    """As in mmdet's RetinaSepBNHead: one convolution for all levels, a norm for each."""
    cnn = pytest.importorskip("mmcv.cnn")
    net = nn.ModuleList(cnn.ConvModule(3, 4, 3, norm_cfg=dict(type="BN")) for _ in range(2)).double()
    net[1].conv = net[0].conv
    shake(net).eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = [level(x) for level in net]
        assert fuse(net).folded == 2
        assert_same([level(x) for level in net], expected)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2, bias=False),
        nn.Conv3d(4, 6, 1, bias=False),
        nn.ConvTranspose3d(4, 6, 2, 2),
        AWConv2d(4, 6, 3, padding=1, stride=2),
        AAConv2d(4, 16, 3, padding=1, dk=8, dv=8, heads=2, shape=(5, 4)),
    ],
    ids=lambda conv: type(conv).__name__,
)
@pytest.mark.parametrize("affine", [True, False])
def test_fold(conv, affine):
    dims = conv.weight.dim() - 2 if hasattr(conv, "weight") else 2
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](conv.out_channels, eps=1e-2, affine=affine)
    conv, norm = copy.deepcopy(conv).double().eval(), norm.double().eval()
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    if affine:
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 4, *(5, 4, 3)[:dims], dtype=torch.float64)
    assert not why_not(conv, norm)
    with torch.no_grad():
        y = conv(x)
        at = (slice(None), *[None] * dims)
        expected = (y - norm.running_mean[at]) / (norm.running_var[at] + 1e-2).sqrt()
        if affine:
            expected = expected * norm.weight[at] + norm.bias[at]
        assert_same([fold(conv, norm)(x)], [expected], share=1e-13)
        assert torch.equal(conv(x), y)


def test_fold_of_flows():
    conv, norm = nn.Conv2d(3, 4, 1, bias=False).double(), MFBN2d(4, 3).double().eval()
    nn.init.uniform_(norm.running_mean)
    folded = fold(conv, norm, range(1, 3))
    assert isinstance(folded, FlowConv) and list(folded.convs) == ["1", "2"]
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    for n in (1, 2):
        with flow(n), torch.no_grad():
            expected = F.batch_norm(
                conv(x), norm.running_mean[n], norm.running_var[n], norm.weight, norm.bias
            )
            assert_same([folded(x)], [expected], share=1e-13)
    with torch.no_grad():
        assert torch.equal(folded(x), folded.convs["2"](x))


def test_deployed_builds_what_a_folded_state_fits():
    pytest.importorskip("mmdet.models")
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, norm_eval=False)
    cfg = dict(type="attn_mm.TDAF", width=32, backbone=backbone)
    with DefaultScope.overwrite_default_scope("mmdet"):
        net = shake(MODELS.build(copy.deepcopy(cfg)))
        deployed = MODELS.build(dict(copy.deepcopy(cfg), of=cfg["type"]) | dict(type="attn_mm.Deployed"))
    fuse(net)
    deployed.load_state_dict(net.state_dict())
    assert not norms(deployed)
