"""New norms train beside frozen pretrained ones (``partial_bn``), and stay batch norms beside group norms."""

from __future__ import annotations

import pytest
import torch
from grafted import build, in_mode, outputs, picture
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

NEW = [dict(type="attn_mm.AWConv"), dict(type="attn_mm.CBAM", reduction=4), dict(type="attn_mm.TD")]


def norms(net: nn.Module) -> dict[str, list[nn.Module]]:
    """Batch norms by who has added them."""
    found: dict[str, list[nn.Module]] = {"backbone": [], "new": [], "repeated": []}
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            new = "attention" in name or ".attn." in name
            found["repeated" if ".td.norms" in name else "new" if new else "backbone"].append(module)
    assert all(found.values())
    return found


@pytest.mark.parametrize("frozen_stages", [-1, 1])
def test_partial_bn_freezes_pretrained_norms_only(frozen_stages):
    net = build(("mmaction.ResNet", 18), NEW, partial_bn=True, frozen_stages=frozen_stages)
    before = {name: b.clone() for name, b in net.named_buffers() if "running_mean" in name}
    sum(y.square().mean() for y in outputs(in_mode(net, True), picture(("mmaction.ResNet", 18)))).backward()
    found = norms(net)
    for norm in found["repeated"] + found["backbone"][1:]:
        assert not norm.training and not norm.weight.requires_grad
    in_frozen = {m for m in net.layer1.modules() if frozen_stages == 1}
    for norm in found["new"]:
        trains = norm not in in_frozen
        assert norm.training == norm.weight.requires_grad == norm.bias.requires_grad == trains
        assert (norm.bias.grad is not None) == trains
    moved = [not torch.equal(b, before[name]) for name, b in net.named_buffers() if name in before]
    assert sum(moved) == len(found["new"]) - len(in_frozen & set(found["new"])) + (frozen_stages < 0)


def test_new_norms_beside_group_norms_are_batch_norms():
    net = build(("mmpose.ResNet", 18), NEW, norm_cfg=dict(type="GN", num_groups=4))
    kinds = {type(m) for m in net.modules() if isinstance(m, _BatchNorm | nn.GroupNorm)}
    assert kinds == {nn.BatchNorm2d, nn.GroupNorm}
    steps = [module for name, module in net.named_modules() if name.endswith(".td.norms.0")]
    assert steps and not any(list(step.children()) for step in steps)
