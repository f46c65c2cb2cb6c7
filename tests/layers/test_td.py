"""Top-down attention is eqs. 4-8 of its paper."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from layers import reference_td
from layers.reference import leaves
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.td import TopDownAttention

SHAPES = [
    dict(n=2, bottom=(4, 5), top=(3, 2)),
    dict(n=1, bottom=(1, 1), top=(1, 1)),
    dict(n=3, bottom=(2, 3, 4), top=(2, 1, 2)),
]
MODES = [
    dict(),
    dict(hidden="paper"),
    dict(spatial="sigmoid"),
    dict(mode="top"),
    dict(mode="top", spatial="sigmoid", hidden="paper"),
]


def build(bottom=9, top=13, **options):
    return TopDownAttention(bottom, top, reduction=4, **options).double()


def maps(shape, dtype=torch.float64):
    bottom = torch.randn(shape["n"], 9, *shape["bottom"], dtype=dtype) + 0.5
    top = torch.randn(shape["n"], 13, *shape["top"], dtype=dtype) + 0.5
    return bottom.requires_grad_(), top.requires_grad_()


def copies(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_eqs_4_to_8(shape, options):
    layer = build(dims=len(shape["bottom"]), **options)
    # Far from 0, where the two readings of eq. 7 differ most.
    torch.nn.init.normal_(layer.mlp.weight, std=2)
    bottom, top = maps(shape)
    bottom_twin, top_twin = copies(bottom, top)
    parameters = leaves(layer)

    out = layer(bottom, top)
    gate, positions, expected = reference_td.attend(
        parameters, bottom_twin, top_twin, options.get("spatial", "raw")
    )
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(bottom.grad, bottom_twin.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(top.grad, top_twin.grad, rtol=1e-11, atol=1e-12)

    seen_gate, seen_positions = layer.searchlight(bottom, top.flatten(2).mean(2))
    one = (1,) * len(shape["bottom"])
    assert seen_gate.shape == (shape["n"], 9, *one)
    assert seen_positions.shape == (shape["n"], 1, *shape["bottom"])
    torch.testing.assert_close(seen_gate.flatten(1), gate, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen_positions.squeeze(1), positions, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_pooled_top_will_do(shape):
    layer = build(dims=len(shape["bottom"]))
    bottom, top = maps(shape)
    pooled = top.flatten(2).mean(2)
    expected = layer(bottom, top)
    torch.testing.assert_close(layer.modulate(bottom, pooled), expected, rtol=1e-12, atol=1e-12)
    as_map = pooled.reshape(*pooled.shape, *[1] * len(shape["bottom"]))
    torch.testing.assert_close(layer.modulate(bottom, as_map), expected, rtol=1e-12, atol=1e-12)


def test_the_widths_are_the_published_ones():
    def widths(*channels, **options):
        layer = TopDownAttention(*channels, **options)
        return {name: tuple(p.shape[:2]) for name, p in layer.named_parameters()}

    assert widths(512, 2048) == {
        "top_mlp.weight": (128, 2048),
        "bottom_mlp.weight": (128, 512),
        "mlp.weight": (512, 256),
    }
    # Eq. 4: W_b is C_0/r x C_0, W_s is C_0 x (C_N + C_0)/r.
    assert widths(512, 2048, hidden="paper") == {
        "top_mlp.weight": (128, 2048),
        "bottom_mlp.weight": (32, 512),
        "mlp.weight": (512, 160),
    }
    assert widths(512, 2048, mode="top") == {"top_mlp.weight": (128, 2048), "mlp.weight": (512, 128)}


def test_zero_weights_halve_twice():
    layer = build()
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    bottom, top = maps(SHAPES[0])
    torch.testing.assert_close(layer(bottom, top), bottom / 4, rtol=0, atol=0)


def test_precisions_and_layouts():
    layer = build()
    bottom, top = maps(SHAPES[0])
    exact = layer(bottom, top)

    single = copy.deepcopy(layer).float()
    torch.testing.assert_close(single(bottom.float(), top.float()).double(), exact, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        half = single(bottom.float(), top.float())
    torch.testing.assert_close(half.double(), exact, rtol=2e-2, atol=2e-2)
    half = copy.deepcopy(layer).bfloat16()(bottom.bfloat16(), top.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=5e-2, atol=5e-2)

    last = [x.detach().to(memory_format=torch.channels_last) for x in (bottom, top)]
    out = layer(*last)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, exact, rtol=1e-12, atol=1e-12)


def test_every_multiplication_of_the_formulas_is_counted():
    bottom, top = maps(SHAPES[0], torch.float32)
    layer = build().float()
    with as_written(), torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(bottom, top)
    n, size = 2, 4 * 5
    w_t, w_b, w_s, spatial = 13 * 3, 9 * 3, 6 * 9, 9 * size
    assert counter.get_total_flops() == 2 * n * (w_t + w_b + w_s + spatial)


def test_copies_pickles_compiles_and_exports():
    layer = build().float()
    bottom, top = (x.detach() for x in maps(SHAPES[0], torch.float32))
    expected = layer(bottom, top)

    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        torch.testing.assert_close(twin(bottom, top), expected, rtol=0, atol=0)

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(bottom, top), expected)
    exported = torch.export.export(layer, (bottom, top)).module()
    torch.testing.assert_close(exported(bottom, top), expected)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(mode="both"), "mode must be 'joint' or 'top', got 'both'"),
        (dict(hidden="eq4"), "hidden must be 'code' or 'paper', got 'eq4'"),
        (dict(spatial="none"), "spatial must be 'raw' or 'sigmoid', got 'none'"),
        (dict(dims=1), "dims must be 2 or 3, got 1"),
        (dict(reduction=0), r"reduction must be in 1\.\.32 .*, got 0"),
        (dict(reduction=33), r"reduction must be in 1\.\.32 .*, got 33"),
        (dict(reduction=17, hidden="paper"), r"reduction must be in 1\.\.16 .*, got 17"),
    ],
    ids=str,
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TopDownAttention(16, 32, **options)
