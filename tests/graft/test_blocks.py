"""Grafts run in every forward of the blocks that they select."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from grafted import GRAFTS
from mmengine.registry import MODELS
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.families import FAMILIES
from attn_mm.graft.units import other_forwards
from attn_mm.layers import SE
from attn_mm.models.grafts.layer import put_layer
from attn_mm.models.grafts.td import top_down

DETECTORS = {
    "ResNet": dict(type="mmdet.DetectoRS_ResNet"),
    "ResNet-SAC-with_cp": dict(
        type="mmdet.DetectoRS_ResNet",
        sac=dict(type="SAC", use_deform=False),
        stage_with_sac=(False, False, True, False),
        with_cp=True,
    ),
    "ResNeXt": dict(type="mmdet.DetectoRS_ResNeXt", groups=4, base_width=4),
}
THIN = {("ResNet", "all"), ("ResNet-SAC-with_cp", "TD"), ("ResNeXt", "CBAM")}
CASES = [
    pytest.param(net, graft, marks=() if (net, graft) in THIN else pytest.mark.whole)
    for net in DETECTORS
    for graft in GRAFTS
    # AW-convolution takes no switchable one.
    if not ("SAC" in net and "AW" in graft)
]


@pytest.mark.parametrize(("net", "graft"), CASES)
def test_grafts_run_in_the_recursive_pyramids_pass(net, graft):
    pytest.importorskip("mmdet.models")
    torch.manual_seed(0)
    inner = dict(**DETECTORS[net], depth=50, base_channels=16, stem_channels=16, rfp_inplanes=8)
    backbone = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=inner, grafts=GRAFTS[graft]))
    x = torch.randn(2, 3, 64, 64)
    pyramid = [None, *(torch.randn(2, 8, side, side) for side in (8, 4, 2))]
    added = {name: p for name, p in backbone.named_parameters() if ".attn" in name or ".td." in name}
    added |= {name: p for name, p in backbone.named_parameters() if ".attention." in name}
    assert added

    backbone.train()
    # with_cp checkpoints what needs a gradient.
    x.requires_grad_()
    learning = []
    for outs in (backbone(x), backbone.rfp_forward(x, pyramid)):
        backbone.zero_grad()
        sum(out.square().mean() for out in outs).backward()
        assert not [name for name, p in added.items() if p.grad is None or not p.grad.isfinite().all()]
        learning.append(sum(p.grad.abs().sum() > 0 for p in added.values()))
    # In a tree of TAM's many are at rest, on either way.
    assert learning[1] > learning[0] / 2 > 0

    # Without anything from the pyramid the second forward is the first.
    backbone.eval()
    for name, parameter in backbone.named_parameters():
        if "rfp_conv" in name:
            nn.init.zeros_(parameter)
    with torch.no_grad():
        for second, first in zip(backbone.rfp_forward(x, pyramid), backbone(x), strict=True):
            torch.testing.assert_close(second, first)


def test_flows_are_refused_where_a_neck_runs_the_backbone_in_another_way():
    pytest.importorskip("mmdet.models")
    net = dict(type="mmdet.DetectoRS_ResNet", depth=50, base_channels=4, stem_channels=4)
    for graft in ("TDAF", "FlowPyramid", "MultiScale"):
        with pytest.raises(ConfigError, match="DetectoRS_ResNet"):
            MODELS.build(
                dict(type="attn_mm.AttnBackbone", backbone=net, grafts=[dict(type=f"attn_mm.{graft}")])
            )


def test_a_further_forward_of_a_block_is_refused():
    pytest.importorskip("mmpose.models")
    net = MODELS.build(dict(type="mmpose.ResNet", depth=18))
    block = type(net.layer1[0])

    class TwoWays(block):
        def late_forward(self, x):
            return self.relu(self.conv2(x))

    net.layer4[1].__class__ = TwoWays
    for graft in (partial(put_layer, layer=SE), top_down):
        with pytest.raises(TypeError, match="TwoWays also runs by late_forward"):
            graft(net)


@pytest.mark.parametrize("framework", ["mmaction", "mmdet", "mmpose", "mmpretrain"])
def test_every_block_that_grafts_take_has_a_known_set_of_forwards(framework):
    pytest.importorskip(f"{framework}.models")
    owners = {
        cls: next((base for base in cls.__mro__ if "forward" in vars(base)), cls)
        for cls in derived(nn.Module)
    }
    known = [
        cls.__new__(cls)
        for cls, owner in owners.items()
        if cls.__module__.startswith(f"{framework}.models")
        if f"{owner.__module__}.{owner.__qualname__}" in FAMILIES
    ]
    assert len(known) >= 2
    further = {name for block in known for name in other_forwards(block)}
    assert further == ({"rfp_forward"} if framework == "mmdet" else set())


def derived(cls: type) -> set[type]:
    return {cls}.union(*map(derived, type.__subclasses__(cls)))
