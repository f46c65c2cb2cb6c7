"""The kernels in Triton's interpreter: what ``test_kernels.py`` runs in a process of its own."""

from __future__ import annotations

import pytest
import torch
from layers import reference_aw, reference_gates
from torch import nn

from attn_mm.layers import TAM, AWConv2d, aw_forms, tam_forms
from attn_mm.layers.kernels.aw_conv import aw_conv
from attn_mm.layers.kernels.tam import fits, tree_gate

TOLERANCE = dict(rtol=1e-12, atol=1e-12)
FORMATS = pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])


def randn(*shape, last=False, dtype=torch.float64):
    x = torch.randn(*shape, dtype=dtype)
    memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}[len(shape)]
    return x.contiguous(memory_format=memory_format if last else torch.contiguous_format)


CONVS = [
    # samples, channels, kernel, size, stride, padding, dilation
    (3, (5, 7), (3, 3), (6, 5), (1, 1), (1, 1), (1, 1)),
    (2, (40, 19), (3, 3), (7, 9), (2, 1), (1, 0), (1, 2)),
    (9, (17, 150), (3, 3), (4, 4), (2, 2), (1, 1), (1, 1)),
    (4, (3, 130), (1, 3), (5, 5), (1, 1), (0, 1), (1, 1)),
]


def products(x, weight, s, bias, stride, padding, dilation):
    """Eq. 5 for each sample."""
    padded = reference_aw.pad(x, padding, padding, "zeros")
    samples = [
        nn.functional.conv2d(padded[n : n + 1], weight * s[n], bias, stride, 0, dilation)
        for n in range(len(x))
    ]
    return torch.cat(samples)


@FORMATS
@pytest.mark.parametrize("batch, channels, kernel, size, stride, padding, dilation", CONVS)
def test_aw_conv(batch, channels, kernel, size, stride, padding, dilation, last):
    x = randn(batch, channels[0], *size, last=last)
    weight, s = randn(channels[1], channels[0], *kernel), torch.rand(batch, channels[1], 1, *kernel).double()
    conv = stride, padding, dilation
    bias = None if last else torch.randn(channels[1], dtype=torch.float64)
    y, expected = aw_conv(x, weight, s, bias, *conv), products(x, weight, s, bias, *conv)
    torch.testing.assert_close(y, expected, **TOLERANCE)
    assert y.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert aw_conv(x[:0], weight, s[:0], None, *conv).shape == (0, *y.shape[1:])


# The interpreter of Triton 3.6 multiplies the bits of bfloat16 as integers, and cuts where it should round.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_aw_conv_sums_in_float32(dtype):
    x, weight = randn(2, 64, 5, 5, dtype=dtype), randn(32, 64, 3, 3, dtype=torch.float32) / 24
    s, bias = torch.rand(2, 32, 1, 3, 3) + 1, torch.randn(32)
    conv = (1, 1), (1, 1), (1, 1)
    y = aw_conv(x, weight, s, bias, *conv)
    assert y.dtype == dtype
    exact = products(x.double(), weight.to(dtype).double(), s.double(), bias.double(), *conv)
    # The last rounding alone, to the type of x.
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=2e-6)


def on_kernels(monkeypatch):
    """Let the layers take the kernels here, and count how often they do."""
    calls = []
    for module in (aw_forms, tam_forms):
        monkeypatch.setattr(module.kernels, "usable", lambda x: calls.append(x) or True)
    return calls


@pytest.mark.parametrize("size", [(2, 3), (6, 5)], ids=["few positions", "many positions"])
@FORMATS
def test_aw_layer_on_the_kernel(last, size, monkeypatch):
    """Forward by the kernel, backward by what takes no weights for each sample: eq. 5's and its gradients."""
    monkeypatch.setattr(aw_forms, "_is_on_cpu", lambda x: False)
    layer = AWConv2d(6, 10, 3, padding=1).double()
    x = randn(3, 6, *size, last=last).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    params = {name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters()}
    norms = {
        name: reference_aw.Norm(
            params[f"attention.{name}.weight"],
            params[f"attention.{name}.bias"],
            getattr(layer.attention, name).running_mean,
            getattr(layer.attention, name).running_var,
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
    monkeypatch.setattr(aw_forms, "_KERNEL_TYPES", (torch.float64,))
    on_kernels(monkeypatch)
    y = layer(x)
    assert used
    torch.testing.assert_close(y, expected, **TOLERANCE)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    expected.backward(cotangent)
    torch.testing.assert_close(x.grad, twin.grad, **TOLERANCE)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, params[name].grad, rtol=1e-11, atol=1e-11)


TREES = [(2, 2), (16, 2), (64, 4), (32, 4), (8, 16)]


@FORMATS
@pytest.mark.parametrize("size", [(5, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("channels, group_size", TREES)
def test_tam_layer_on_the_kernel(channels, group_size, size, last, monkeypatch):
    calls = on_kernels(monkeypatch)
    layer = reference_gates.randomize(TAM(channels, group_size, dims=len(size)))
    x = randn(3, channels, *size, last=last)
    reference_gates.assert_equals(layer, x, lambda x, params: reference_gates.tam(x, params, group_size))
    assert calls and layer(x).stride() == x.stride()
    with layer.gate_statistics() as statistics:
        layer(x)
    gates = reference_gates.tam_gate(x, dict(layer.named_parameters()), group_size)
    assert statistics.mean == pytest.approx(torch.stack(list(gates)).mean().item(), rel=1e-12)


def split(layer):
    """Weights, biases and slopes of the levels."""
    parameters = list(layer.parameters())
    return parameters[0::3], parameters[1::3], parameters[2::3]


def test_tam_of_any_strides_and_more_positions_than_a_program_has():
    layer = reference_gates.randomize(TAM(8))
    for x in (
        randn(2, 8, 20, 17),
        randn(2, 8, 6, 7).transpose(2, 3),
        randn(2, 16, 5, 5)[:, ::2],
        randn(0, 8, 3, 3),
    ):
        y, gate = tree_gate(x, *split(layer), 2)
        torch.testing.assert_close(gate, layer.tree(x).sigmoid(), **TOLERANCE)
        torch.testing.assert_close(y, x * gate, **TOLERANCE)


def test_tam_rounds_once():
    dtype = torch.float16
    layer = reference_gates.randomize(TAM(64)).float()
    x = randn(2, 64, 4, 4, dtype=dtype)
    y, gate = tree_gate(x, *split(layer), 2)
    assert y.dtype == dtype and gate.dtype == torch.float32
    exact = layer.double().tree(x.double()).sigmoid()
    torch.testing.assert_close(gate.double(), exact, rtol=1e-5, atol=1e-6)
    assert (y != (x.double() * exact).to(dtype)).double().mean() < 0.01


def test_trees_that_are_no_powers_of_two_have_no_kernel(monkeypatch):
    assert fits(256, 2) and fits(2048, 4) and fits(8, 16)
    assert not fits(96, 2) and not fits(27, 3) and not fits(2**15, 2)
    on_kernels(monkeypatch)
    layer = reference_gates.randomize(TAM(12))
    reference_gates.assert_equals(
        layer, randn(2, 12, 3, 3), lambda x, params: reference_gates.tam(x, params, 2)
    )
