"""Feedback stopped early, against the last block written out."""

from __future__ import annotations

import pytest
import torch
from grafted import NARROW
from mmengine.registry import MODELS

from attn_mm.graft.early_stop import feedback_steps, last_feedback, stopped_after


def build(kind: str = "mmpretrain.ResNet", depth=18, **td) -> torch.nn.Module:
    backbone = dict(type=kind, **(dict(depth=depth, **NARROW) if depth else dict(arch="large")))
    if td:
        graft = dict(type="attn_mm.TD", **td)
        backbone = dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=[graft])
    net = MODELS.build(backbone).double()
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def by_hand(net: torch.nn.Module, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The last stage with that many steps, of what the stages before give."""
    for block in net.layer4:
        bottom = block.norm1(block.conv1(x)).relu()
        norms = [block.norm2, *(step["conv2"] for step in block.td.norms)]
        for norm in norms[: steps - 1]:
            bottom = block.td.attention(bottom, norm(block.conv2(bottom)))
        top = norms[steps - 1](block.conv2(bottom))
        x = (top + (x if block.downsample is None else block.downsample(x))).relu()
    return x


@torch.no_grad()
def test_each_step_ends_with_its_own_norm():
    net = build(steps=3)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before = net.maxpool(net.relu(net.norm1(net.conv1(x))))
    for stage in (net.layer1, net.layer2, net.layer3):
        before = stage(before)
    whole = net(x)[-1]
    for step in (1, 2, 3):
        with stopped_after(net, step):
            (found,) = net(x)
        torch.testing.assert_close(found, by_hand(net, before, step), rtol=0, atol=1e-10)
        assert step == 3 or not torch.allclose(found, whole)
    assert torch.equal(net(x)[-1], whole)


def test_the_last_stage_alone_is_stopped():
    net = build(steps=2)
    assert feedback_steps(net) == 2
    assert last_feedback(net) == list(net.layer4)
    earlier = build(steps=4, stages=(1, 2))
    assert last_feedback(earlier) == list(earlier.layer3)
    mobile = build("mmpretrain.MobileNetV3", depth=None, steps=2, stages=(-3, -2, -1))
    assert len(last_feedback(mobile)) == 3
    assert feedback_steps(build()) == 1
    with (
        pytest.raises(ValueError, match=r"step must be in 1\.\.2, the network's steps, got 3"),
        stopped_after(net, 3),
    ):
        pass
