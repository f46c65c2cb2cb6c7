"""MobileNet has the published parameters, and two units a block that attention can be put behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers.aw_conv import AWConv2d
from attn_mm.layers.se import SE
from attn_mm.models.backbones.mobilenet_v1 import MobileNetV1

CLASSIFIER = 1000 * 1025


def build(**options):
    return MODELS.build({**dict(type="attn_mm.MobileNetV1", widen_factor=0.25), **options})


def parameters(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def blocks(net):
    return [block for name in net.res_layers for block in getattr(net, name)]


def gates(net):
    widths = [c for b in blocks(net) for c in (b.depthwise.out_channels, b.pointwise.out_channels)]
    return [SE(width, reduction=16, bias=True) for width in widths]


def test_published_parameters():
    net = MobileNetV1()
    assert parameters(net) + CLASSIFIER == 4_231_976
    assert round((parameters(net, *gates(net)) + CLASSIFIER) / 1e6, 3) == 5.072
    for block in blocks(net):
        block.pointwise = AWConv2d.from_conv(block.pointwise)
    assert len(blocks(net)) == 13
    assert round((parameters(net, *gates(net)) + CLASSIFIER) / 1e6, 3) == 5.521


def test_published_multiply_adds():
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        MobileNetV1().eval()(torch.zeros(1, 3, 224, 224))
    assert round((counter.get_total_flops() / 2 + 1_024_000) / 1e9, 3) == 0.569


def by_hand(net, x):
    """Table 1 of the paper, with norms over batch statistics."""

    def unit(x, conv, norm, **geometry):
        y = F.conv2d(x, conv.weight, **geometry)
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        return y.clamp(min=0)

    x = unit(x, net.conv1, net.bn1, stride=2, padding=1)
    strides = {
        "layer1": [1],
        "layer2": [2, 1],
        "layer3": [2, 1],
        "layer4": [2, 1, 1, 1, 1, 1],
        "layer5": [2, 1],
    }
    maps = []
    for name, of_stage in strides.items():
        for block, stride in zip(getattr(net, name), of_stage, strict=True):
            x = unit(x, block.depthwise, block.bn1, stride=stride, padding=1, groups=x.shape[1])
            x = unit(x, block.pointwise, block.bn2)
        maps.append(x)
    return maps


def test_equals_the_net_by_hand():
    net = build(out_indices=range(5)).double()
    for p in net.parameters():
        nn.init.uniform_(p, -0.5, 1)
    x = torch.randn(2, 3, 65, 50, dtype=torch.float64)
    outputs = net(x)
    sizes = [(16, 33, 25), (32, 17, 13), (64, 9, 7), (128, 5, 4), (256, 3, 2)]
    assert [tuple(y.shape[1:]) for y in outputs] == sizes
    for ours, theirs in zip(outputs, by_hand(net, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_cp", [False, True])
def test_every_parameter_learns(with_cp):
    net = build(with_cp=with_cp)
    net.init_weights()
    net(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


@pytest.mark.parametrize("frozen", [-1, 0, 2, 5])
def test_frozen_stages(frozen):
    net = build(frozen_stages=frozen).train()
    kept = ("conv1.", "bn1.")[: 2 * (frozen >= 0)] + tuple(f"layer{i + 1}." for i in range(frozen))
    for name, p in net.named_parameters():
        assert p.requires_grad != name.startswith(kept), name
    for name, m in net.named_modules():
        if isinstance(m, _BatchNorm):
            assert m.training != f"{name}.".startswith(kept), name


def test_norm_eval_and_configs_reach_every_layer():
    net = build(norm_eval=True, norm_cfg=dict(type="BN", momentum=0.02)).train()
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    assert len(norms) == 27 and all(m.momentum == 0.02 and not m.training for m in norms)
    net = build(conv_cfg=dict(type="Conv2d", padding_mode="reflect"))
    assert {m.padding_mode for m in net.modules() if isinstance(m, nn.Conv2d)} == {"reflect"}


def test_wrong_stages_are_named():
    with pytest.raises(ValueError, match=r"out_indices must be a sequence of 0..4, got \(5,\)"):
        MobileNetV1(out_indices=(5,))
    with pytest.raises(ValueError, match=r"frozen_stages must be in -1\.\.5, got 6"):
        MobileNetV1(frozen_stages=6)
