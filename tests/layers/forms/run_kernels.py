"""The kernels on a CUDA device or, with TRITON_INTERPRET=1, in Triton's interpreter.

``test_kernels.py`` runs this file in a process of its own.
"""

from __future__ import annotations

import os
from itertools import product

import pytest
import torch
from layers import reference_aw, reference_gates
from torch import nn

from attn_mm.layers import TAM, AWConv2d
from attn_mm.layers.forms import aw as aw_forms
from attn_mm.layers.forms import tam as tam_forms
from attn_mm.layers.forms.aw_triton import aw_conv, aw_conv_gradients
from attn_mm.layers.forms.tam_triton import fits, tree_gate, tree_gate_gradients

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
DTYPES = [torch.float64, torch.float16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]
# Sums of float32 products in an order of their own.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}
# The interpreter takes its time, and Triton 3.6's multiplies the bits of bfloat16 as integers.
TYPES = (
    [(torch.float64, False), (torch.float16, True)] if INTERPRETED else list(product(DTYPES, [False, True]))
)
EACH_TYPE = pytest.mark.parametrize("dtype, last", TYPES, ids=str)


@pytest.fixture(autouse=True)
def _without_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def randn(*shape, last=False, dtype=torch.float64):
    x = torch.randn(*shape, dtype=torch.float64).to(DEVICE, dtype)
    memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}[len(shape)]
    return x.contiguous(memory_format=memory_format if last else torch.contiguous_format)


def assert_near(y, exact, dtype):
    """Within the rounding of ``dtype``, as a share of the whole tensor's norm."""
    assert torch.isfinite(y).all()
    assert (y.cpu().double() - exact).norm() <= TOLERANCE[dtype] * exact.norm()


CONVS = [
    # samples, channels, kernel, size, stride, padding, dilation
    (3, (5, 7), (3, 3), (6, 5), (1, 1), (1, 1), (1, 1)),
    (2, (40, 19), (3, 3), (7, 9), (2, 1), (1, 0), (1, 2)),
    (2, (5, 6), (3, 2), (9, 8), (3, 2), (1, 1), (2, 1)),
    (1, (17, 130), (3, 3), (4, 4), (2, 2), (1, 1), (1, 1)),
    (1, (130, 3), (1, 3), (5, 9), (1, 1), (0, 2), (2, 2)),
    # Several tiles of places.
    (1, (3, 5), (1, 1), (12, 13), (1, 1), (0, 0), (1, 1)),
]
if not INTERPRETED:
    CONVS += [
        (4, (64, 64), (3, 3), (56, 56), (1, 1), (1, 1), (1, 1)),
        (6, (512, 512), (3, 3), (7, 7), (1, 1), (1, 1), (1, 1)),
        (17, (128, 192), (3, 3), (28, 28), (2, 2), (1, 1), (1, 1)),
        (2, (96, 40), (5, 5), (19, 23), (1, 2), (2, 1), (1, 1)),
    ]


# The interpreter meets each convolution in one type, in turn; in both in the whole matrix.
CONVS_AND_TYPES = [
    pytest.param(*conv, *kind, marks=pytest.mark.whole if INTERPRETED and (i + j) % len(TYPES) else ())
    for i, conv in enumerate(CONVS)
    for j, kind in enumerate(TYPES)
]


def products(x, weight, s, bias, stride, padding, dilation):
    """Eq. 5 for each sample."""
    padded = reference_aw.pad(x, padding, padding, "zeros")
    samples = [
        nn.functional.conv2d(padded[n : n + 1], weight * s[n], bias, stride, 0, dilation)
        for n in range(len(x))
    ]
    return torch.cat(samples)


@pytest.mark.parametrize(
    "batch, channels, kernel, size, stride, padding, dilation, dtype, last", CONVS_AND_TYPES
)
def test_aw_conv_and_its_gradients(batch, channels, kernel, size, stride, padding, dilation, dtype, last):
    conv = stride, padding, dilation
    wide = torch.promote_types(dtype, torch.float32)
    x = randn(batch, channels[0], *size, last=last, dtype=dtype)
    # As the kernel rounds them.
    weight = randn(channels[1], channels[0], *kernel).to(dtype).to(wide)
    s = torch.rand(batch, channels[1], 1, *kernel).to(DEVICE, wide) + 1
    bias = None if last else torch.randn(channels[1]).to(DEVICE, wide)
    exact = [None if t is None else t.cpu().double().requires_grad_() for t in (x, weight, s, bias)]

    y, expected = aw_conv(x, weight, s, bias, *conv), products(*exact, *conv)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert_near(y, expected, dtype)

    grad = randn(*y.shape, last=last, dtype=dtype)
    gradients = aw_conv_gradients(grad, x, weight, s, *conv, (True, True, True))
    assert gradients[0].stride() == x.stride()
    for own, reference in zip(gradients, torch.autograd.grad(expected, exact[:3], grad.cpu().double())):
        assert own.shape == reference.shape
        assert_near(own, reference, dtype)


def test_aw_conv_of_nothing():
    conv = (1, 1), (1, 1), (1, 1)
    x, weight = randn(0, 5, 6, 5, dtype=torch.float32), randn(7, 5, 3, 3, dtype=torch.float32)
    s = torch.ones(0, 7, 1, 3, 3, device=DEVICE)
    y = aw_conv(x, weight, s, None, *conv)
    assert y.shape == (0, 7, 6, 5)
    of_x, of_weight, of_s = aw_conv_gradients(y, x, weight, s, *conv, (True, True, True))
    assert of_x.shape == x.shape and of_s.shape == s.shape
    assert of_weight.shape == weight.shape and not of_weight.any()
    assert aw_conv_gradients(y, x, weight, s, *conv, (False, False, False)) == (None, None, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_aw_conv_sums_in_float32(dtype):
    x, weight = randn(2, 64, 5, 5, dtype=dtype), randn(32, 64, 3, 3, dtype=torch.float32) / 24
    s, bias = torch.rand(2, 32, 1, 3, 3, device=DEVICE) + 1, torch.randn(32, device=DEVICE)
    conv = (1, 1), (1, 1), (1, 1)
    y = aw_conv(x, weight, s, bias, *conv)
    exact = products(x.double(), weight.to(dtype).double(), s.double(), bias.double(), *conv)
    # The last rounding alone, to the type of x.
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=2e-6)


def on_kernels(monkeypatch):
    """Let the layers take the kernels, in the interpreter too, and count how often they do."""
    calls = []
    for module in (aw_forms, tam_forms):
        monkeypatch.setattr(module.kernels, "usable", lambda x: calls.append(x) or True)
    monkeypatch.setattr(aw_forms, "_is_on_cpu", lambda x: False)
    monkeypatch.setattr(aw_forms, "_KERNEL_TYPES", DTYPES)
    return calls


@pytest.mark.parametrize(
    "last",
    [pytest.param(False, marks=pytest.mark.whole if INTERPRETED else ()), True],
    ids=["channels_first", "channels_last"],
)
def test_aw_layer_on_the_kernels(last, monkeypatch):
    """Forward and backward are eq. 5's and its gradients."""
    dtype = DTYPES[0]
    layer = AWConv2d(6, 10, 3, padding=1).to(DEVICE, dtype)
    x = randn(3, 6, 5, 4, last=last, dtype=dtype).requires_grad_()
    twin = x.detach().double().requires_grad_()
    params = {name: p.detach().double().requires_grad_() for name, p in layer.named_parameters()}
    norms = {
        name: reference_aw.Norm(
            params[f"attention.{name}.weight"],
            params[f"attention.{name}.bias"],
            getattr(layer.attention, name).running_mean.double(),
            getattr(layer.attention, name).running_var.double(),
            True,
        )
        for name in ("norm1", "norm2")
    }
    expected = reference_aw.aw_conv(
        twin, params, norms, (6, 1, 1), layer.stride, layer.padding, layer.dilation, 1, "zeros"
    )
    used = []
    form = aw_forms.FORMS["fused"]
    monkeypatch.setitem(aw_forms.FORMS, "fused", lambda *args: used.append(1) or form(*args))
    on_kernels(monkeypatch)
    y = layer(x)
    assert used
    tolerance = dict(rtol=1e-11, atol=1e-11) if dtype == torch.float64 else dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y.double(), expected, **tolerance)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    expected.backward(cotangent.double())
    torch.testing.assert_close(x.grad.double(), twin.grad, **tolerance)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad.double(), params[name].grad, **tolerance)


TREES = [(2, 2), (16, 2), (32, 4), (8, 16)]
if not INTERPRETED:
    TREES += [(256, 2), (2048, 2), (512, 8)]
SHAPES_OF_TREES = [
    # The interpreter meets videos with one tree.
    pytest.param(
        tree, size, marks=pytest.mark.whole if INTERPRETED and len(size) == 3 and tree[0] != 16 else ()
    )
    for tree in TREES
    for size in ((5, 3), (2, 3, 4))
]


@EACH_TYPE
@pytest.mark.parametrize("tree, size", SHAPES_OF_TREES, ids=str)
def test_tam_and_its_gradients(tree, size, dtype, last):
    channels, group_size = tree
    layer = reference_gates.randomize(TAM(channels, group_size, dims=len(size)))
    parameters = [p.detach().to(DEVICE) for p in layer.parameters()]
    x = randn(3, channels, *size, last=last, dtype=dtype)
    exact = x.cpu().double().requires_grad_()
    gates = reference_gates.tam_gate(exact, dict(layer.named_parameters()), group_size)[:, None]
    expected = exact * gates
    y, gate = tree_gate(x, parameters, group_size)
    assert y.dtype == dtype and y.stride() == x.stride()
    wide = torch.promote_types(dtype, torch.float32)
    assert gate.dtype == wide
    assert_near(gate, gates, wide)
    assert_near(y, expected, dtype)

    grad = randn(*y.shape, last=last, dtype=dtype)
    of_x, of_parameters = tree_gate_gradients(grad, x, gate, parameters, group_size)
    reference = torch.autograd.grad(expected, [exact, *layer.parameters()], grad.cpu().double())
    assert of_x.dtype == dtype and of_x.stride() == x.stride()
    assert_near(of_x, reference[0], dtype)
    for own, exact_grad in zip(of_parameters, reference[1:], strict=True):
        assert own.dtype == wide and own.shape == exact_grad.shape
        # Sums of few numbers that cancel have their scale, not their own, for an error.
        scale = max(exact_grad.norm(), 1e-2 * max(g.norm() for g in reference[1:]))
        assert (own.cpu().double() - exact_grad).norm() <= 10 * TOLERANCE[wide] * scale


def test_tam_layer_on_the_kernels(monkeypatch):
    calls = on_kernels(monkeypatch)
    layer = reference_gates.randomize(TAM(32)).to(DEVICE)
    x = randn(3, 32, 5, 3)
    reference_gates.assert_equals(layer, x, lambda x, params: reference_gates.tam(x, params, 2))
    assert calls
    with layer.gate_statistics() as statistics:
        layer(x)
    gates = reference_gates.tam_gate(x, dict(layer.named_parameters()), 2)
    assert statistics.mean == pytest.approx(torch.stack(list(gates)).mean().item(), rel=1e-12)


def test_tam_of_any_strides_and_more_positions_than_a_program_has():
    layer = reference_gates.randomize(TAM(8)).to(DEVICE)
    parameters = list(layer.parameters())
    for x in (
        randn(2, 8, 20, 17),
        randn(2, 8, 6, 7).transpose(2, 3),
        randn(2, 16, 5, 5)[:, ::2],
        randn(0, 8, 3, 3),
    ):
        exact = x.clone().requires_grad_()
        expected = exact * layer.tree(exact).sigmoid()
        y, gate = tree_gate(x, parameters, 2)
        torch.testing.assert_close(gate, layer.tree(x).sigmoid(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        grad = torch.randn_like(x)
        of_x, of_parameters = tree_gate_gradients(grad, x, gate, parameters, 2)
        reference = torch.autograd.grad(expected, [exact, *parameters], grad)
        for own, other in zip((of_x, *of_parameters), reference, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-11)


def test_trees_that_are_no_powers_of_two_have_no_kernel(monkeypatch):
    assert fits(256, 2) and fits(2048, 4) and fits(8, 16)
    assert not fits(96, 2) and not fits(27, 3) and not fits(2**14, 2)
    on_kernels(monkeypatch)
    layer = reference_gates.randomize(TAM(12)).to(DEVICE)
    reference_gates.assert_equals(
        layer, randn(2, 12, 3, 3), lambda x, params: reference_gates.tam(x, params, 2)
    )
