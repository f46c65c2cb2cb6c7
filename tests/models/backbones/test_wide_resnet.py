"""Wide ResNets have the published parameters, the structure that grafts expect, and mmpretrain's options."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers.aa_conv import AAConv2d
from attn_mm.layers.aw_conv import AWConv2d
from attn_mm.layers.ops.execution import as_written
from attn_mm.models.backbones.wide_resnet import WideResNet

PUBLISHED_AA = dict(
    depth=10, widen_factor=10, strides=(1, 1, 2), aa=dict(dk=0.2, dv=0.1, heads=8, qkv_kernel_size=3)
)
SMALL_AA = dict(dk=4, dv=2, heads=2, qkv_kernel_size=3)


def build(**options):
    return MODELS.build(
        {**dict(type="attn_mm.WideResNet", depth=10, widen_factor=1, base_channels=4), **options}
    )


def parameters(net, classes=0, channels=0):
    return sum(p.numel() for p in net.parameters()) + classes * (channels + bool(classes))


def blocks(net):
    return [block for name in net.res_layers for block in getattr(net, name)]


@pytest.mark.parametrize("classes, published", [(100, 11.01), (10, 10.96)], ids=["CIFAR-100", "SVHN"])
def test_wrn_16_8_has_the_published_parameters(classes, published):
    assert round(parameters(WideResNet(16, 8), classes, 512) / 1e6, 2) == published


@pytest.mark.parametrize(
    "attended, exact, published",
    [
        (None, 8.435, 8.43),
        ("conv2", 8.504, 8.50),
        ("conv1.conv", 8.478, 8.48),
        ("conv1.qkv", 8.452, 8.45),
        ("conv1.out", 8.435, 8.44),
    ],
    ids=["none", "AW-0", "AW-1", "AW-2", "AW-3"],
)
def test_aa_nets_have_the_published_parameters(attended, exact, published):
    net = WideResNet(**PUBLISHED_AA)
    for block in blocks(net) if attended else ():
        parent, _, name = attended.rpartition(".")
        plain = block.get_submodule(attended)
        setattr(block.get_submodule(parent), name, AWConv2d.from_conv(plain))
    count = parameters(net, 100, 640)
    assert round(count / 1e6, 3) == exact
    # Two digits are published: 8.43 of 8.4345 and 8.44 of 8.4355.
    assert f"{count / 1e6:.2f}" == f"{published:.2f}"


def multiply_adds(net, size=32):
    with torch.no_grad(), as_written(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() / 2


def test_multiply_adds_are_near_the_published_ones():
    # The TAM paper's unit is 2^30.
    assert round(multiply_adds(WideResNet(16, 8)) / 2**30, 2) == 1.44
    assert abs(multiply_adds(WideResNet(**PUBLISHED_AA)) / 3.89e9 - 1) < 0.04


def by_hand(net, x):
    """The net in words: convolutions, norms with batch statistics, ReLUs and sums."""

    def norm(y, module):
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        return (y - mean) / (var + 1e-5).sqrt() * module.weight[:, None, None] + module.bias[:, None, None]

    x = norm(F.conv2d(x, net.conv1.weight, padding=1), net.bn1).clamp(min=0)
    maps = []
    for stage, name in enumerate(net.res_layers):
        for place, block in enumerate(getattr(net, name)):
            stride = 2 if stage and place == 0 else 1
            y = norm(F.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.bn1).clamp(min=0)
            y = norm(F.conv2d(y, block.conv2.weight, padding=1), block.bn2)
            if place == 0 and x.shape[1] != y.shape[1]:
                conv, bn = block.downsample
                x = norm(F.conv2d(x, conv.weight, stride=stride), bn)
            x = (x + y).clamp(min=0)
        maps.append(x)
    return maps


@pytest.mark.parametrize("widen", [1, 2])
def test_equals_the_net_by_hand(widen):
    net = build(depth=16, widen_factor=widen, out_indices=(0, 1, 2)).double()
    assert (blocks(net)[0].downsample is None) == (widen == 1)
    for p in net.parameters():
        nn.init.uniform_(p, -0.5, 1)
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    outputs = net(x)
    assert [tuple(y.shape[1:]) for y in outputs] == [(4 * widen * 2**i, *s) for i, s in enumerate(SIZES)]
    for ours, theirs in zip(outputs, by_hand(net, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


SIZES = [(9, 10), (5, 5), (3, 3)]


def test_aa_follows_the_size_of_every_stage():
    net = build(aa=SMALL_AA, input_size=(9, 10), out_indices=(0, 1, 2))
    assert [block.conv1.shape for block in blocks(net)] == SIZES
    assert all(isinstance(block.conv1, AAConv2d) for block in blocks(net))
    assert all(block.conv1.conv.bias is None and block.conv1.qkv.bias is not None for block in blocks(net))
    assert [tuple(y.shape[2:]) for y in net(torch.randn(1, 3, 9, 10))] == SIZES
    with pytest.raises(ValueError, match=r"shape is \(9, 10\), but the input"):
        net(torch.randn(1, 3, 8, 8))
    keeps = build(aa=SMALL_AA, strides=(1, 1, 2), input_size=(9, 10))
    assert [block.conv1.shape for block in blocks(keeps)] == [(9, 10), (9, 10), (5, 5)]
    assert build(aa=dict(SMALL_AA, relative=False))(torch.randn(1, 3, 8, 12))[0].shape == (1, 16, 2, 3)


@pytest.mark.parametrize("with_cp", [False, True])
@pytest.mark.parametrize("aa", [None, SMALL_AA], ids=["plain", "aa"])
def test_every_parameter_learns(aa, with_cp):
    net = build(aa=aa, input_size=(8, 8), with_cp=with_cp)
    net.init_weights()
    net(torch.randn(2, 3, 8, 8, requires_grad=True))[0].square().mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name


@pytest.mark.parametrize("aa", [None, SMALL_AA], ids=["plain", "aa"])
def test_checkpointing_changes_no_gradient(aa):
    plain = build(depth=16, aa=aa, input_size=(8, 8)).double()
    saving = build(depth=16, aa=aa, input_size=(8, 8), with_cp=True).double()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for net in (plain, saving):
        net(x)[0].square().sum().backward()
    for p, q in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(p.grad, q.grad)


def test_init_weights_is_kaiming_with_norms_of_one():
    net = build(base_channels=32)
    for p in net.parameters():
        nn.init.constant_(p, 7.0)
    net.init_weights()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight[:, 0].numel()
            assert abs(module.weight.std().item() / (2 / fan_out) ** 0.5 - 1) < 0.1
        elif isinstance(module, _BatchNorm):
            assert module.weight.eq(1).all() and module.bias.eq(0).all()


@pytest.mark.parametrize("frozen", [-1, 0, 1, 3])
def test_frozen_stages(frozen):
    net = build(frozen_stages=frozen).train()
    kept = ("conv1.", "bn1.")[: 2 * (frozen >= 0)] + tuple(f"layer{i + 1}." for i in range(frozen))
    for name, p in net.named_parameters():
        assert p.requires_grad != name.startswith(kept), name
    for name, m in net.named_modules():
        if isinstance(m, _BatchNorm):
            assert m.training != f"{name}.".startswith(kept), name


def test_norm_eval_keeps_the_statistics():
    net = build(norm_eval=True).train()
    assert net.training and not any(m.training for m in net.modules() if isinstance(m, _BatchNorm))
    before = copy.deepcopy(net.state_dict())
    net(torch.randn(2, 3, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_norm_and_conv_configs():
    net = build(norm_cfg=dict(type="GN", num_groups=2), conv_cfg=dict(type="Conv2d", padding_mode="reflect"))
    assert isinstance(blocks(net)[0].norm2, nn.GroupNorm) and blocks(net)[0].norm2 is blocks(net)[0].gn2
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 1 + 3 * 2 + 2 and all(m.padding_mode == "reflect" for m in convs)
    assert net(torch.randn(1, 3, 8, 8))[0].shape == (1, 16, 2, 2)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(depth=12), r"depth must be 6n \+ 4 .*got 12"),
        (dict(depth=4), r"depth must be 6n \+ 4 .*got 4"),
        (dict(strides=(1, 2)), r"strides must have three values, one per stage, got \(1, 2\)"),
        (dict(out_indices=(3,)), r"out_indices must be a sequence of 0..2, got \(3,\)"),
        (dict(out_indices=2), "out_indices must be a sequence of 0..2, got 2"),
        (dict(frozen_stages=4), "frozen_stages must be in -1..3, got 4"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        WideResNet(**{**dict(depth=10, widen_factor=1), **options})
