"""Attention-augmented convolution is its formula, position by position."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from layers import reference_aa
from layers.reference import leaves
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers.aa_conv import AAConv2d
from attn_mm.layers.ops.execution import as_written

TOLERANCE = dict(rtol=1e-11, atol=1e-11)
SMALL = dict(heads=2, dk=6, dv=4)


def pairs(*values):
    return [v if isinstance(v, tuple) else (v, v) for v in values]


def assert_equals_the_reference(size, batch=2, c_in=3, c_out=10, kernel=3, qkv=1, groups=1, **options):
    geometry = {name: options.get(name, default) for name, default in GEOMETRY.items()}
    layer = AAConv2d(c_in, c_out, kernel, qkv_kernel_size=qkv, groups=groups, **SMALL, **options).double()
    params = leaves(layer)
    ours = torch.randn(batch, c_in, *size, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    kernel, qkv, *rest = pairs(kernel, qkv, *geometry.values())
    expected, weights = reference_aa.aa_conv(
        theirs, params, *SMALL.values(), kernel, qkv, **dict(zip(geometry, rest)), groups=groups
    )
    out = layer(ours)
    torch.testing.assert_close(out, expected, **TOLERANCE)
    attention = layer.attention(ours).detach()
    for (b, h, y, x), weight in weights.items():
        torch.testing.assert_close(attention[b, h, y * out.shape[3] + x], weight, **TOLERANCE)
    direction = torch.randn_like(out)
    (out * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, params[name].grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


GEOMETRY = dict(stride=1, padding=0, dilation=1)


@pytest.mark.parametrize(
    "case",
    [
        dict(size=(4, 5), shape=(4, 5), padding=1),
        dict(size=(4, 5), shape=(4, 5), padding=1, batch=1, qkv=3),
        dict(size=(5, 7), shape=(3, 4), padding=1, stride=2),
        dict(size=(5, 4), shape=(3, 2), padding=1, stride=2, qkv=3, bias=False, qkv_bias=False),
        dict(size=(5, 6), shape=(5, 6), padding=2, dilation=2),
        dict(size=(4, 5), shape=(2, 3), qkv=3),
        dict(size=(4, 5), shape=(4, 5), kernel=1),
        dict(size=(3, 6), shape=(3, 3), kernel=(1, 5), padding=(0, 2), stride=(1, 2), qkv=(1, 3)),
        dict(size=(3, 4), shape=(3, 4), padding=1, c_in=4, groups=2),
        dict(size=(1, 1), shape=(1, 1), padding=1, batch=1),
        dict(size=(3, 1), shape=(3, 1), padding=1),
        dict(size=(3, 4), padding=1, relative=False),
    ],
    ids=str,
)
def test_equals_the_reference(case):
    assert_equals_the_reference(**case)


def test_written_order_is_the_same_and_counts_every_product():
    layer = AAConv2d(4, 12, 3, padding=1, shape=(5, 6), **SMALL).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    usual = layer(x)
    with as_written(), FlopCounterMode(display=False) as counter:
        written = layer(x)
    torch.testing.assert_close(usual, written, **TOLERANCE)
    pixels, dk, dv = 30, 6, 4
    convolutions = pixels * (9 * 4 * (12 - dv) + 4 * (2 * dk + dv) + dv * dv)
    attention = pixels * pixels * (dk + dv) + pixels * (5 + 6) * dk
    assert counter.get_total_flops() == 2 * 2 * (convolutions + attention)


def test_relative_positions_follow_a_shift_and_no_positions_follow_any_order():
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    unaware = AAConv2d(3, 10, 1, relative=False, **SMALL).double()
    order = torch.randperm(20)
    shuffled = x.flatten(2)[:, :, order].unflatten(2, (4, 5))
    expected = unaware(x).flatten(2)[:, :, order].unflatten(2, (4, 5))
    torch.testing.assert_close(unaware(shuffled), expected, **TOLERANCE)
    aware = AAConv2d(3, 10, 1, shape=(4, 5), **SMALL).double()
    expected = aware(x).flatten(2)[:, :, order].unflatten(2, (4, 5))
    assert (aware(shuffled) - expected).abs().max() > 1e-3


def test_keys_have_a_least_number_of_channels_a_head():
    """The text of the AW paper: "a minimum of 20 dimensions per head for the keys"."""
    for dk, least, expected in ((16, 1, 16), (16, 2, 16), (16, 20, 160), (0.2, 20, 160), (0.9, 2, 56)):
        layer = AAConv2d(4, 64, 3, padding=1, shape=7, dk=dk, dv=8, heads=8, min_key_channels=least)
        assert (layer.dk, layer.dv) == (expected, 8)
        assert layer(torch.zeros(1, 4, 7, 7)).shape == (1, 64, 7, 7)


@pytest.mark.parametrize(
    "c_out, dk, dv, heads, widths",
    [
        (160, 0.2, 0.1, 8, (32, 16)),
        (640, 0.2, 0.1, 8, (128, 64)),
        (100, 0.2, 0.1, 8, (16, 8)),  # 20 and 10: 2.5 and 1.25 channels a head
        (40, 0.2, 0.1, 8, (8, 8)),  # never less than one a head
        (40, 24, 16, 8, (24, 16)),
        (20, 0.5, 4, 2, (10, 4)),
    ],
)
def test_ratios_become_whole_channels_a_head(c_out, dk, dv, heads, widths):
    layer = AAConv2d(4, c_out, 3, padding=1, shape=7, dk=dk, dv=dv, heads=heads)
    assert (layer.dk, layer.dv) == widths
    assert layer.conv.out_channels + layer.out.out_channels == c_out
    assert layer.relative_width.shape == layer.relative_height.shape == (13, widths[0] // heads)


def test_it_has_the_attributes_of_a_convolution():
    layer = AAConv2d(4, 20, 3, 2, 1, groups=2, shape=(4, 4), **SMALL)
    plain = nn.Conv2d(4, 20, 3, 2, 1, groups=2)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(layer, name) == getattr(plain, name)
    x = torch.randn(1, 4, 7, 8)
    assert layer(x).shape == plain(x).shape


def test_it_starts_with_positions_of_unit_length():
    layer = AAConv2d(8, 64, 3, padding=1, shape=(40, 50), dk=64, dv=8)
    for p in layer.parameters():
        nn.init.constant_(p, 7.0)
    layer.reset_parameters()
    for embedding in (layer.relative_height, layer.relative_width):
        assert abs(embedding.std().item() * 8**0.5 - 1) < 0.1
    bound = (8 * 9) ** -0.5
    assert layer.conv.weight.abs().max() <= bound and layer.qkv.weight.abs().max() <= 8**-0.5
    assert layer.out.weight.abs().max() <= 8**-0.5 and layer.conv.bias.abs().max() <= bound


@pytest.fixture
def layer():
    return AAConv2d(3, 12, 3, stride=2, padding=1, shape=(4, 3), **SMALL)


@pytest.fixture
def x():
    return torch.randn(2, 3, 7, 6)


def test_types_and_memory_formats_agree(layer, x):
    exact = copy.deepcopy(layer).double()(x.double())
    assert (layer(x) - exact).abs().max() < 1e-5
    last = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), layer(x), rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    assert low.dtype == torch.bfloat16
    assert (low - exact).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_copies_and_pickles(layer, x):
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x), layer(x))
        other.relative_width.data.add_(torch.randn_like(other.relative_width))
        assert not torch.equal(other(x), layer(x))


def test_it_compiles_and_exports_whole(layer, x):
    expected = layer(x)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)


def test_used_twice_it_gets_both_gradients(layer, x):
    layer.double()
    a, b = x.double(), torch.randn(2, 3, 7, 6, dtype=torch.float64)

    def gradients(*inputs):
        return torch.autograd.grad(sum(layer(i).square().sum() for i in inputs), [*layer.parameters()])

    for both, of_a, of_b in zip(gradients(a, b), gradients(a), gradients(b), strict=True):
        torch.testing.assert_close(both, of_a + of_b, **TOLERANCE)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(shape=None), r"relative=True requires shape=\(H, W\)"),
        (dict(dk=7), "dk must be a positive multiple of 2 heads, got 7"),
        (dict(dv=0), "dv must be a positive multiple of 2 heads, got 0"),
        (dict(dk=1.5), "dk as a ratio must be between 0 and 1, got 1.5"),
        (dict(min_key_channels=0), "min_key_channels must be a positive whole number, got 0"),
        (dict(dv=12), "dv = 12 must be less than out_channels = 12"),
        (dict(padding=0), "'same' padding or the same kernel"),
        (dict(qkv_kernel_size=2), "'same' padding or the same kernel"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AAConv2d(3, 12, 3, **{**dict(padding=1, shape=(4, 4), **SMALL), **options})


def test_another_size_is_refused_and_free_without_positions(layer, x):
    message = r"shape is \(4, 3\), but the input \(9, 6\) gives an output map of \(5, 3\)"
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(1, 3, 9, 6))
    free = AAConv2d(3, 12, 3, padding=1, relative=False, **SMALL)
    assert free(torch.randn(1, 3, 9, 6)).shape == (1, 12, 9, 6)
    assert not [name for name, _ in free.named_parameters() if "relative" in name]
