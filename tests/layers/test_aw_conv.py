"""AW-convolution is eqs. 4-8 of its paper in every form, with the published parameter counts."""

from __future__ import annotations

import copy
import inspect
import io
import math
from itertools import pairwise

import pytest
import torch
import torchvision
from layers import reference_aw
from layers.reference import leaves
from thinned import thinned
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers import aw_attention, aw_conv
from attn_mm.layers.aw_attention import AWAttention
from attn_mm.layers.aw_conv import AWConv2d, AWConv3d
from attn_mm.layers.forms import aw as aw_forms
from attn_mm.layers.forms.aw import FORMS, choose_form
from attn_mm.layers.mfbn import convert_multi_flow
from attn_mm.layers.ops.execution import as_written, flow

LAYERS = {2: AWConv2d, 3: AWConv3d}
RATIOS = ("reduce_c1", "reduce_c2", "reduce_hw")
TOLERANCE = dict(rtol=1e-11, atol=1e-12)


def build(channels=(4, 6), kernel_size=3, dims=2, **options):
    """A float64 layer whose attention and norms are far from their start."""
    layer = LAYERS[dims](*channels, kernel_size, **{"reduction": 2, **options}).double()
    for norm in (layer.attention.norm1, layer.attention.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return layer


def image(batch=3, channels=4, size=(7, 9), **options):
    return torch.randn(batch, channels, *size, **{"dtype": torch.float64, **options})


def expected(layer, x):
    """The reference's output and leaves, and the norms it used."""
    params = leaves(layer)
    norms = {}
    for name in ("norm1", "norm2"):
        norm = getattr(layer.attention, name)
        affine = params[f"attention.{name}.weight"], params[f"attention.{name}.bias"]
        norms[name] = reference_aw.Norm(*affine, norm.running_mean, norm.running_var, norm.training)
    attention = layer.attention
    shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    ratios = shape[1] // attention.values[1], shape[0] // attention.values[0]
    ratios = *ratios, shape[2] // attention.pooled[0]
    conv = layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode
    conv = *conv, attention.identity
    return reference_aw.aw_conv(x, params, norms, ratios, *conv), params, norms


def relative_error(ours, theirs):
    """The largest error against the largest value; against 1 where all values are below it."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()


def assert_equals_the_reference(layer, x):
    """Output, running statistics and all gradients."""
    x = x.detach().requires_grad_()
    twin = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    theirs, params, norms = expected(layer, twin)
    ours = layer(x)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) < 1e-12
    cotangent = torch.randn_like(theirs)
    (ours * cotangent).sum().backward()
    (theirs * cotangent).sum().backward()
    assert relative_error(x.grad, twin.grad) < 1e-11
    for name, p in layer.named_parameters():
        assert relative_error(p.grad, params[name].grad) < 1e-11, name
    for name, norm in norms.items():
        torch.testing.assert_close(getattr(layer.attention, name).running_mean, norm.mean, **TOLERANCE)
        torch.testing.assert_close(getattr(layer.attention, name).running_var, norm.var, **TOLERANCE)


@pytest.fixture
def force(monkeypatch):
    """Make every layer compute in the form of a name."""

    def force(form):
        monkeypatch.setattr(aw_conv, "choose_form", lambda *_: form)

    return force


TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])

KERNELS = pytest.mark.parametrize(
    "options", [dict(kernel_size=1), dict(padding=1), dict(padding=1, stride=2)], ids=str
)

CONVS = [
    dict(),
    dict(kernel_size=1),
    dict(kernel_size=1, stride=2, padding=1),
    dict(kernel_size=(5, 3), padding=(2, 1)),
    dict(kernel_size=(1, 3), padding=(0, 1), bias=False),
    dict(stride=2, padding=1),
    dict(stride=(1, 2), padding=1, dilation=2),
    dict(padding=1, groups=2),
    dict(padding=1, groups=2, reduce_c1=1),
    dict(channels=(6, 6), padding=1, groups=6),
    dict(padding="same", dilation=(1, 2)),
    dict(kernel_size=(4, 2), padding="same"),
    dict(kernel_size=(4, 2), padding="same", padding_mode="circular"),
    dict(padding="valid"),
    dict(padding=1, padding_mode="reflect"),
    dict(padding=(2, 1), padding_mode="replicate"),
    dict(padding=2, padding_mode="circular", stride=2),
    dict(padding=1, reduce_c1=1),
    dict(padding=1, reduce_c1=2, reduce_c2=3),
    dict(kernel_size=4, padding=1, reduce_hw=2, reduce_c2=2),
    dict(padding=1, reduce_hw=3),
    dict(padding=1, reduce_hw=3, reduce_c1=2),
    dict(kernel_size=1, reduce_c1=2),
    dict(reduction=16),
    dict(padding=1, identity=False),
    dict(kernel_size=1, identity=False, bias=False),
    dict(padding=1, groups=2, reduce_c1=1, identity=False),
    dict(kernel_size=4, padding=1, reduce_hw=2, reduce_c2=2, identity=False),
]


@TRAINING
@pytest.mark.parametrize("options", CONVS, ids=str)
def test_equals_eq_5(options, training):
    layer = build(**options).train(training)
    assert_equals_the_reference(layer, image(channels=layer.in_channels))


@TRAINING
@pytest.mark.parametrize(
    "options",
    [
        dict(kernel_size=1),
        dict(padding=1, stride=(1, 2, 2)),
        dict(kernel_size=(1, 3, 2), padding="same", groups=2),
        dict(padding=1, padding_mode="replicate", reduce_hw=3, reduce_c1=2),
    ],
    ids=str,
)
def test_equals_eq_5_in_3d(options, training):
    assert_equals_the_reference(build(dims=3, **options).train(training), image(2, size=(3, 5, 4)))


@TRAINING
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (5, 2)], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_small_maps_and_batches(batch, kernel_size, size, training):
    layer = build(kernel_size=kernel_size, padding=1).train(training)
    assert_equals_the_reference(layer, image(batch, size=size))


# What each form can do: any s; s without C1; and of that, only images of stride 1 in one group.
ANY = [
    dict(padding=1),
    dict(stride=2, padding=(0, 1), dilation=(1, 2), groups=2, bias=False),
    dict(kernel_size=(2, 3), padding=2, reduce_c1=2),
    dict(reduce_hw=3),
]
WITHOUT_C1 = [
    dict(padding=1),
    dict(stride=2, padding=(0, 1), dilation=(1, 2), groups=2, bias=False),
    dict(kernel_size=(2, 5), stride=(1, 3), padding=(3, 1)),
    dict(padding=1, padding_mode="reflect", stride=2),
    dict(dims=3, stride=2, padding=1),
]
STRIDE_1 = [
    dict(padding=1),
    dict(padding=0, bias=False),
    dict(kernel_size=(2, 5), padding=(3, 1), dilation=(2, 1)),
    dict(padding="same", padding_mode="circular", dilation=2),
    dict(padding=1, dilation=4),
]
ALONE = [
    *[(form, dict(padding=1, identity=False)) for form in ("grouped", "matmul", "loop", "taps", "shift")],
    ("scale", dict(kernel_size=1, identity=False)),
    ("loop", dict(dims=3, padding=1, identity=False)),
]
FORM_CASES = [
    *ALONE,
    *[(form, options) for form in ("grouped", "matmul", "loop") for options in [*ANY, WITHOUT_C1[-1]]],
    *[("taps", options) for options in WITHOUT_C1],
    *[("shift", options) for options in STRIDE_1],
    *[("scale", options) for options in (dict(kernel_size=1), dict(padding=1, stride=2, reduce_hw=3))],
]


def in_memory_format(x, layer, channels_last):
    if not channels_last:
        return x, layer
    memory_format = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.to(memory_format=memory_format), layer.to(memory_format=memory_format)


@pytest.mark.parametrize("channels_last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("form, options", FORM_CASES, ids=str)
def test_every_form_equals_eq_5(force, form, options, channels_last):
    force(form)
    for training in (True, False):
        layer = build(**options).train(training)
        size = (5, 9, 7)[-len(layer.kernel_size) :]
        x, layer = in_memory_format(image(size=size), layer, channels_last)
        assert_equals_the_reference(layer, x)
        # Elsewhere torch itself does not keep the format: 3D in float64, circular padding.
        if form != "matmul" and x.dim() == 4 and layer.padding_mode == "zeros":
            assert layer(x).stride() == plain_conv(layer)(x).stride()


def plain_conv(layer):
    """torch's convolution with the weights of ``layer``."""
    conv = layer._plain(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
    )
    conv.weight, conv.bias = layer.weight, layer.bias
    return conv


def test_the_attention_alone_is_an_option(force):
    """A * K without K: what it records, what an open gate does, and what it refuses."""
    assert {form for form, _ in ALONE} == set(FORMS) - {"fused"}
    for identity, kind, neutral in ((True, aw_conv.FACTORS, 0.0), (False, aw_conv.FACTORS_ALONE, 1.0)):
        layer, x = build(padding=1, identity=identity).eval(), image()
        a = layer.attention(x)
        _, (recorded,) = layer.recorded(layer, x)
        assert recorded.kind is kind and torch.equal(recorded.values, a + identity)
        assert kind.bounds[0] <= recorded.values.min() and recorded.values.max() <= kind.bounds[1]
        opened = layer.attention.opened(layer.attention, x)
        assert torch.equal(opened, torch.full_like(a, neutral))
        layer.attention.register_forward_hook(lambda *_, opened=opened: opened)
        torch.testing.assert_close(layer(x), plain_conv(layer)(x), **TOLERANCE)
    with pytest.raises(ValueError, match="identity must be True or False, got 1"):
        AWConv2d(4, 4, 3, identity=1)


@pytest.mark.parametrize("wanted", ["x", "weight", "bias", "attention.conv2.weight"])
@pytest.mark.parametrize("form", ["loop", "shift", "taps"])
def test_gradients_of_one_alone_are_those_of_all(force, form, wanted):
    force(form)
    layer, x = build(padding=1).eval(), image()

    def gradients(only=None):
        twin = copy.deepcopy(layer)
        inputs = {"x": x.clone().requires_grad_(), **dict(twin.named_parameters())}
        for name, tensor in inputs.items():
            tensor.requires_grad_(only in (None, name))
        twin(inputs["x"]).square().sum().backward()
        return {name: tensor.grad for name, tensor in inputs.items()}

    alone, everything = gradients(wanted), gradients()
    assert [name for name, grad in alone.items() if grad is not None] == [wanted]
    torch.testing.assert_close(alone[wanted], everything[wanted], **TOLERANCE)


@pytest.mark.parametrize("form", ["loop", "shift", "taps"])
def test_forms_with_their_own_backward_refuse_a_second_one(force, form):
    force(form)
    layer, x = build(padding=1).eval(), image().requires_grad_()
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("form", ["grouped", "loop", "shift", "taps"])
@pytest.mark.parametrize(
    "kernel_size, stride", [((1, 3), 1), ((2, 2), 3), ((1, 3), 2), ((1, 2, 3), (1, 2, 2))]
)
def test_a_form_keeps_channels_last(form, kernel_size, stride):
    if form == "shift" and stride != 1:
        pytest.skip("is for stride 1")
    dims = len(kernel_size)
    layer = build(kernel_size=kernel_size, stride=stride, padding=1, dims=dims).eval()
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    x = image(3, size=(5, 4, 6)[:dims]).contiguous(memory_format=layout)
    s = layer.attention(x) + 1
    y = FORMS[form](x, layer.weight, s, layer.bias, layer.stride, layer.padding, layer.dilation, 1)
    assert y.is_contiguous(memory_format=layout)


RELUS = torch.relu, torch.relu_


@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("form", ["grouped", "loop", "shift", "taps"])
def test_what_a_form_gives_can_be_written_over(form, layout):
    """As a ReLU in place does."""
    x = image(3, size=(5, 4)).to(memory_format=getattr(torch, layout)).requires_grad_()
    layer = build(padding=1)
    s = layer.attention(x) + 1
    conv = x, layer.weight, s, layer.bias, layer.stride, layer.padding, layer.dilation, 1
    grads = [torch.autograd.grad(relu(FORMS[form](*conv)).sum(), x, retain_graph=True)[0] for relu in RELUS]
    torch.testing.assert_close(*grads)


def test_written_order_can_be_differentiated_twice():
    layer, x = build((2, 2), padding=1).eval(), image(3, 2, (3, 3)).requires_grad_()
    with as_written():
        assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize(
    "form, batch, positions, options, layout",
    [
        ("scale", 8, 4, dict(kernel_size=1), "channels_last"),
        ("scale", 8, 4, dict(reduce_hw=3), "contiguous_format"),
        ("grouped", 2, 4, dict(), "contiguous_format"),
        ("grouped", 2, 4, dict(), "channels_last"),
        ("grouped", 8, 7, dict(), "contiguous_format"),
        ("grouped", 8, 65, dict(channels=(4, 64)), "channels_last"),
        ("loop", 8, 65, dict(channels=(4, 64), stride=2), "channels_last"),
        ("shift", 8, 6, dict(), "contiguous_format"),
        ("shift", 8, 5, dict(), "channels_last"),
        ("shift", 2, 1, dict(), "contiguous_format"),
        ("grouped", 1, 1, dict(), "contiguous_format"),
        ("grouped", 1, 1, dict(), "channels_last"),
        ("taps", 8, 1, dict(stride=2), "contiguous_format"),
        ("grouped", 8, 5, dict(stride=2), "contiguous_format"),
        ("taps", 8, 5, dict(stride=2), "channels_last"),
        ("grouped", 8, 5, dict(groups=2), "contiguous_format"),
        ("grouped", 8, 5, dict(groups=2), "channels_last"),
        ("grouped", 8, 5, dict(reduce_c1=1), "contiguous_format"),
        ("grouped", 8, 5, dict(kernel_size=1, reduce_c1=1), "contiguous_format"),
        ("loop", 8, 5, dict(kernel_size=5), "contiguous_format"),
        ("grouped", 8, 7, dict(kernel_size=5), "contiguous_format"),
        ("loop", 8, 5, dict(dims=3), "contiguous_format"),
        ("taps", 8, 5, dict(dims=3, kernel_size=(1, 3, 3)), "contiguous_format"),
        ("matmul", 0, 5, dict(), "contiguous_format"),
    ],
)
def test_choice_of_form_on_a_cpu(form, batch, positions, options, layout):
    layer = build(**options)
    x = image(batch, size=(6, 6, 6)[: len(layer.kernel_size)]).to(memory_format=getattr(torch, layout))
    chosen = choose_form(x, layer.weight, layer.attention(x) + 1, layer.stride, positions, layer.groups)
    assert chosen == form
    with as_written():
        written = choose_form(x, layer.weight, layer.attention(x) + 1, layer.stride, positions, layer.groups)
    assert written == ("matmul" if batch == 0 else "grouped")


@pytest.mark.parametrize(
    "form, batch, positions, options, layout",
    [
        ("grouped", 2, 1, dict(), "contiguous_format"),
        ("shift", 2, 1, dict(), "channels_last"),
        ("shift", 8, 5, dict(), "contiguous_format"),
        ("grouped", 8, 7, dict(), "channels_last"),
        ("loop", 8, 65, dict(channels=(4, 64)), "channels_last"),
        ("grouped", 8, 5, dict(stride=2), "channels_last"),
        ("taps", 8, 1, dict(stride=2), "channels_last"),
    ],
)
@torch.no_grad()
def test_choice_of_form_without_gradients(form, batch, positions, options, layout):
    layer = build(**options)
    x = image(batch, size=(6, 6)).to(memory_format=getattr(torch, layout))
    assert choose_form(x, layer.weight, layer.attention(x) + 1, layer.stride, positions, 1) == form


@pytest.mark.parametrize(
    "form, batch, positions, options, dtype",
    [
        ("scale", 8, 4, dict(kernel_size=1), torch.float32),
        ("fused", 8, 5, dict(), torch.float32),
        ("fused", 1, 6, dict(stride=2, kernel_size=5), torch.float16),
        ("fused", 8, 6, dict(), torch.bfloat16),
        ("taps", 8, 5, dict(), torch.float64),
        ("loop", 8, 6, dict(), torch.float64),
        ("taps", 8, 5, dict(dims=3), torch.float32),
        ("loop", 8, 5, dict(dims=3), torch.bfloat16),
        ("loop", 8, 5, dict(groups=2), torch.float32),
        ("loop", 8, 5, dict(reduce_c1=1), torch.float32),
        ("matmul", 0, 5, dict(), torch.float32),
    ],
)
def test_choice_of_form_with_kernels(form, batch, positions, options, dtype, monkeypatch):
    monkeypatch.setattr(aw_forms.kernels, "usable", lambda x: True)
    layer = build(**options).to(dtype).to("meta")
    x = image(batch, size=(6, 6, 6)[: len(layer.kernel_size)], dtype=dtype, device="meta")
    s = layer.eval().attention(x) + 1
    assert choose_form(x, layer.weight, s, layer.stride, positions, layer.groups) == form
    with as_written():
        written = choose_form(x, layer.weight, s, layer.stride, positions, layer.groups)
    assert written == ("matmul" if batch == 0 else "grouped")


@pytest.mark.parametrize(
    "form, batch, positions, options, dtype",
    [
        ("loop", 1, 6, dict(), torch.float32),
        ("taps", 1, 5, dict(stride=2, kernel_size=5), torch.float32),
        ("loop", 8, 5, dict(), torch.float16),
    ],
)
def test_choice_of_form_on_an_accelerator_without(form, batch, positions, options, dtype):
    layer = build(**options).to(dtype).to("meta").eval()
    x = image(batch, dtype=dtype, device="meta")
    chosen = choose_form(x, layer.weight, layer.attention(x) + 1, layer.stride, positions, layer.groups)
    assert chosen == form


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
@pytest.mark.parametrize("options", ANY, ids=str)
def test_several_samples_at_once(options, at_once, force, monkeypatch):
    force("loop")
    monkeypatch.setattr(aw_forms, "_at_once", lambda x, weight: at_once)
    layer = build(**options)
    for layout in (torch.contiguous_format, torch.channels_last):
        layer.zero_grad()
        assert_equals_the_reference(layer, image(5, size=(5, 9)).to(memory_format=layout))


@pytest.mark.parametrize("options", WITHOUT_C1, ids=str)
def test_an_accelerator_keeps_no_kernel_positions(options, force, monkeypatch):
    force("taps")
    monkeypatch.setattr(aw_forms, "_is_on_cpu", lambda x: False)
    layer = build(**options)
    x = image(size=(5, 9, 7)[-len(layer.kernel_size) :]).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    assert not any(t.shape == y.shape for t in kept)
    assert_equals_the_reference(layer, x)


@pytest.mark.parametrize(
    "form, dtype, positions, options",
    [
        ("shift", torch.bfloat16, 6, dict()),
        ("grouped", torch.bfloat16, 7, dict()),
        ("taps", torch.bfloat16, 1, dict(stride=2)),
        # A position's product may overflow in float16.
        ("grouped", torch.float16, 6, dict()),
        ("grouped", torch.float16, 1, dict(stride=2)),
        ("grouped", torch.bfloat16, 1, dict(kernel_size=5)),
        ("grouped", torch.bfloat16, 1, dict(dims=3)),
    ],
    ids=str,
)
def test_choice_of_form_in_half_precision_on_a_cpu(form, dtype, positions, options):
    layer = build(**options).to(dtype).eval()
    x = image(8, size=(6, 6, 6)[: len(layer.kernel_size)]).to(dtype)
    assert choose_form(x, layer.weight, layer.attention(x), layer.stride, positions, 1) == form


@pytest.mark.parametrize("form", ["grouped", "loop", "shift", "taps"])
def test_bfloat16_adds_kernel_positions_in_float32(form):
    """Sums in bfloat16 have at least twice the error of one rounding, in the output or in x's gradient."""
    torch.manual_seed(0)
    x, s = torch.randn(4, 16, 6, 5), 1 + torch.rand(4, 8, 1, 3, 3)
    weight, bias, grad = torch.randn(8, 16, 3, 3) / 12, torch.randn(8), torch.randn(4, 8, 6, 5)

    def output_and_gradients(form: str, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [t.bfloat16().to(dtype).requires_grad_() for t in (x, weight, s, bias)]
        y = FORMS[form](*inputs, (1, 1), (1, 1), (1, 1), 1)
        return [y, *torch.autograd.grad(y, inputs, grad.bfloat16().to(dtype))]

    exact = output_and_gradients("grouped", torch.float64)
    for ours, right in zip(output_and_gradients(form, torch.bfloat16), exact):
        rounded = (right.bfloat16() - right).square().mean()
        assert 0 < (ours - right).square().mean() < 2.25**2 * rounded


def test_as_written_counts_the_paper_s_operations():
    layer, x = build((32, 48), padding=1, stride=2, reduction=16), image(3, 32, (8, 10))
    counter = FlopCounterMode(display=False)
    with as_written(), counter:
        layer(x)
    conv = 3 * 48 * 32 * 9 * 4 * 5
    attention = 3 * 9 * (32 * 3 + 3 * 48)
    assert counter.get_total_flops() == 2 * (conv + attention)


# Precisions, empty and unbatched inputs


@TRAINING
@KERNELS
@pytest.mark.parametrize("channels_last", [False, True])
def test_float32_agrees(options, channels_last, training):
    layer = build((16, 32), **options).train(training)
    single = copy.deepcopy(layer).float()
    x = image(8, 16, (6, 5))
    x_single, single = in_memory_format(x.float(), single, channels_last)
    assert relative_error(single(x_single).double(), layer(x)) < 3e-6


@KERNELS
@pytest.mark.parametrize("channels_last", [False, True])
def test_autocast_rounds_no_more_than_in_a_plain_convolution(options, channels_last):
    layer = build((16, 32), **options).float()
    x, layer = in_memory_format(image(8, 16, (6, 5), dtype=torch.float32), layer, channels_last)
    plain = plain_conv(layer)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = layer(x), plain(x)
        attention = layer.attention(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    assert torch.equal(attention, layer.attention(x))
    error = relative_error(ours.float(), layer(x))
    assert 0 < error < 2 * relative_error(theirs.float(), plain(x))
    ours.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize("form", ["loop", "grouped", "shift", "taps"])
def test_autocast_gradients(force, form):
    force(form)
    layer, x = build((16, 32), padding=1).float().eval(), image(4, 16, dtype=torch.float32)
    full = copy.deepcopy(layer)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        layer(inputs[0]).sum().backward()
    full(inputs[1]).sum().backward()
    assert inputs[0].grad.dtype == torch.float32
    assert relative_error(inputs[0].grad, inputs[1].grad) < 0.02
    for ours, theirs in zip(layer.parameters(), full.parameters()):
        assert relative_error(ours.grad, theirs.grad) < 0.05


def test_gradients_of_two_frames_in_bfloat16():
    """torch's own are wrong where the samples are not groups of one convolution."""
    layer, x = build((8, 32), dims=3, padding=1).float().eval(), image(8, 8, (2, 4, 4), dtype=torch.float32)
    grads = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = layer(x)
        grads += torch.autograd.grad(y.float().square().mean(), layer.weight)
    assert relative_error(grads[1] / grads[0].abs().max(), grads[0] / grads[0].abs().max()) < 0.02


@pytest.mark.parametrize("dims", [2, 3])
def test_input_without_batch(dims):
    layer = build(dims=dims, padding=1).eval()
    x = image(1, size=(4, 5, 3)[:dims])
    torch.testing.assert_close(layer(x[0]), layer(x)[0], **TOLERANCE)


@TRAINING
@pytest.mark.parametrize("options", [dict(kernel_size=1), dict(padding=1, stride=2), dict(groups=2)], ids=str)
def test_empty_batch(options, training):
    layer = build(**options).train(training)
    x = image(0).requires_grad_()
    y = layer(x)
    assert y.shape == plain_conv(layer)(x).shape
    y.sum().backward()
    assert all((p.grad == 0).all() for p in layer.parameters())
    assert x.grad.shape == x.shape


def test_a_closed_gate_is_the_plain_convolution():
    for options in (dict(kernel_size=1), dict(padding=1), dict(padding=1, stride=2)):
        layer = build((8, 16), **options).eval()
        nn.init.zeros_(layer.attention.norm2.weight)
        nn.init.constant_(layer.attention.norm2.bias, -1e4)
        x = image(4, 8)
        torch.testing.assert_close(layer(x), plain_conv(layer)(x), **TOLERANCE)


def test_starts_at_three_halves_of_the_weights():
    attention = AWConv2d(64, 64, 3, padding=1, bias=False).attention
    x = torch.randn(4, 64, 9, 9)
    for training in (True, False):
        assert (attention.train(training)(x).mean() - 0.5).abs() < 0.01


# Batch norms


@pytest.mark.parametrize("synchronized", [False, True])
def test_a_single_value_is_normalized_by_running_statistics(synchronized):
    layer = build(kernel_size=1)
    if synchronized:
        layer = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    before, x = copy.deepcopy(layer.state_dict()), image(1)
    out = layer(x)
    torch.testing.assert_close(out, layer.eval()(x), **TOLERANCE)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    out.sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert layer.attention.norm1.weight.grad.abs().max() > 0


def test_single_values_of_several_processes_reach_their_synchronized_norm(monkeypatch):
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(build(kernel_size=1))
    monkeypatch.setattr(aw_attention.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(aw_attention.dist, "get_world_size", lambda group=None: 2)
    seen = []
    monkeypatch.setattr(nn.SyncBatchNorm, "forward", lambda self, x: seen.append(self) or x)
    layer(image(1))
    assert seen == [layer.attention.norm1, layer.attention.norm2]


def test_a_single_value_of_a_flow_is_normalized_by_that_flow_s_statistics():
    layer = convert_multi_flow(build(kernel_size=1), 3)
    for norm in (layer.attention.norm1, layer.attention.norm2):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    x = image(1)
    for index in (0, 1, None):
        with flow(index):
            torch.testing.assert_close(layer.train()(x), layer.eval()(x), **TOLERANCE)


def test_folding_a_batch_norm_into_the_weights_is_exact():
    for options in (dict(kernel_size=1), dict(padding=1)):
        layer, norm = build(**options).eval(), nn.BatchNorm2d(6).double().eval()
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        x = image()
        fused = nn.utils.fusion.fuse_conv_bn_eval(layer, norm)
        torch.testing.assert_close(fused(x), norm(layer(x)), **TOLERANCE)


# Parameters


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    "name, exact, published",
    [("resnet50", 25_722_240, 25.722), ("resnet101", 44_862_880, 44.863)],
)
def test_aw_resnet_parameters(name, exact, published):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
    for block in [*net.layer1, *net.layer2, *net.layer3, *net.layer4]:
        block.conv2 = AWConv2d.from_conv(block.conv2)
    assert parameters(net) == exact
    assert round(exact / 1e6, 3) == published


def test_aw_fpn_parameters():
    meta = dict(device="meta")
    laterals = [AWConv2d(c, 256, 1, **meta) for c in (256, 512, 1024, 2048)]
    outputs = [AWConv2d(256, 256, 3, padding=1, **meta) for _ in range(4)]
    assert parameters(*[conv.attention for conv in laterals + outputs]) == 114_944


def test_aw_mobilenet_parameters():
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    convs = [AWConv2d(a, b, 1, bias=False, device="meta") for a, b in pairwise(widths)]
    assert len(convs) == 13
    assert round(parameters(*[conv.attention for conv in convs]) / 1e6, 3) == 0.449


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_attention_parameters_follow_the_ratios(options):
    layer = build(**options)
    c2, c1 = layer.weight.shape[:2]
    r = {"reduction": 2, "reduce_c1": c1, "reduce_c2": 1, **options}
    hidden = max(1, c2 // r["reduction"])
    out = (c2 // r["reduce_c2"]) * (c1 // r["reduce_c1"])
    count = layer.in_channels * hidden + 2 * hidden + hidden * out + 2 * out
    assert parameters(layer.attention) == count


# Plain convolutions' weights


def test_a_plain_state_loads():
    plain = nn.Conv2d(4, 6, 3)
    layer = AWConv2d(4, 6, 3)
    report = layer.load_state_dict(plain.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert report.missing_keys and all(key.startswith("attention.") for key in report.missing_keys)
    assert torch.equal(layer.weight, plain.weight) and torch.equal(layer.bias, plain.bias)


@pytest.mark.parametrize(
    "plain, cls",
    [
        (nn.Conv2d(4, 6, 3, 2, 1, 2, 2, False, "reflect", dtype=torch.float64), AWConv2d),
        (nn.Conv2d(4, 6, (5, 3), padding="same"), AWConv2d),
        (nn.Conv3d(4, 6, (1, 3, 3), (1, 2, 2), (0, 1, 1)), AWConv3d),
    ],
    ids=str,
)
def test_from_conv_keeps_the_convolution(plain, cls):
    plain.weight.requires_grad_(False)
    plain.eval()
    layer = cls.from_conv(plain, reduction=3, reduce_c1=1)
    assert type(layer) is cls
    assert layer.weight is plain.weight and layer.bias is plain.bias
    assert not layer.weight.requires_grad and layer.attention.conv1.weight.requires_grad
    assert not any(module.training for module in layer.modules())
    assert {t.dtype for t in layer.state_dict().values() if t.is_floating_point()} == {plain.weight.dtype}
    assert layer.attention.conv1.out_channels == 2 and layer.attention.values[1] == plain.weight.shape[1]
    x = image(2, 4, (6, 7, 8)[-len(plain.kernel_size) :], dtype=plain.weight.dtype)
    theirs, *_ = expected(layer, x)
    torch.testing.assert_close(layer(x), theirs)
    assert cls.from_conv(copy.deepcopy(plain).train()).attention.norm1.training


class Quiet(nn.Conv2d):
    """A subclass that changes nothing about the computation."""


class Loud(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    conv = nn.Conv2d(4, 6, 3)
    conv.register_forward_hook(lambda *_: None)
    return conv


def test_from_conv_takes_only_torch_s_convolutions():
    assert AWConv2d.from_conv(Quiet(4, 6, 3)).weight.shape == (6, 4, 3, 3)
    others = [
        Loud(4, 6, 3),
        AWConv2d(4, 6, 3),
        nn.Conv3d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 3),
        nn.Linear(4, 6),
    ]
    for other in others:
        message = rf"torch.nn.Conv2d or a subclass .* got .*{type(other).__name__}$"
        with pytest.raises(TypeError, match=message):
            AWConv2d.from_conv(other)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
    for other in (hooked(), normed, nn.LazyConv2d(6, 3)):
        with pytest.raises(TypeError, match="hooks, a parametrized weight"):
            AWConv2d.from_conv(other)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(reduction=0), "reduction must be a positive whole number, got 0"),
        (dict(reduction=1.5), "reduction must be a positive whole number, got 1.5"),
        (dict(reduce_c1=3), "reduce_c1 must be a whole number that divides 4, got 3"),
        (dict(reduce_c1=4, groups=2), "reduce_c1 must be a whole number that divides 2, got 4"),
        (dict(reduce_c2=4), "reduce_c2 must be a whole number that divides 6, got 4"),
        (dict(reduce_c2=0), "reduce_c2 must be a whole number that divides 6, got 0"),
        (
            dict(reduce_hw=3, kernel_size=(3, 5)),
            "reduce_hw must be .* divides 3 and 5, got 3",
        ),
    ],
)
def test_ratios_that_do_not_divide_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_wrong_dimensions_are_refused():
    with pytest.raises(ValueError, match="AWConv2d expects 3 or 4 dimensions, got 5"):
        build()(image(size=(3, 3, 3)))


# Copies, graphs


def test_copies_and_pickles():
    layer, x = build(padding=1).eval(), image()
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(layer), torch.load(buffer, weights_only=False)):
        torch.testing.assert_close(twin(x), layer(x), rtol=0, atol=0)


def test_used_twice():
    layer, x = build((4, 4), padding=1).eval(), image().requires_grad_()
    twin, x_twin = copy.deepcopy(layer), x.detach().clone().requires_grad_()
    layer(layer(x)).sum().backward()
    with as_written():
        twin(twin(x_twin)).sum().backward()
    torch.testing.assert_close(x.grad, x_twin.grad, **TOLERANCE)
    torch.testing.assert_close(layer.weight.grad, twin.weight.grad, **TOLERANCE)


POINTWISE, STRIDED = dict(kernel_size=1), dict(padding=1, stride=2)
GENERAL = dict(padding="same", groups=2, reduce_c1=1, padding_mode="reflect")
VIDEO = dict(dims=3, padding=1)


def graph_case(options):
    layer = build(**options).float().eval()
    dims = len(layer.kernel_size)
    x = image(3, size=(4, 9, 7)[-dims:], dtype=torch.float32)
    other = image(5, size=(6, 8, 11)[-dims:], dtype=torch.float32)
    return layer, x, other


@pytest.mark.parametrize("options", thinned([POINTWISE, STRIDED, VIDEO], [STRIDED]), ids=str)
def test_compiles_whole(options):
    torch._dynamo.reset()
    layer, x, _ = graph_case(options)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer.train(), fullgraph=True, backend="aot_eager")
    theirs = twin.train()(x)
    ours = compiled(x)
    assert relative_error(ours, theirs) < 1e-5
    ours.square().sum().backward()
    theirs.square().sum().backward()
    for p, q in zip(layer.parameters(), twin.parameters()):
        assert relative_error(p.grad, q.grad) < 1e-4


@pytest.mark.parametrize("options", thinned([POINTWISE, STRIDED, GENERAL], [GENERAL]), ids=str)
def test_exports_with_any_batch_and_size(options):
    if options is STRIDED and not hasattr(torch.export.Dim, "AUTO"):
        pytest.skip("this torch's export finds the guards on a strided size too complex")
    layer, x, other = graph_case(options)
    still = torch.export.export(layer, (x,), strict=False).module()
    assert relative_error(still(x), layer(x)) < 1e-5
    dims = [0, *range(2, x.dim())]
    sizes = {dim: torch.export.Dim(f"d{dim}", min=2 if dim == 0 else 4, max=64) for dim in dims}
    free = torch.export.export(layer, (x,), dynamic_shapes=(sizes,), strict=False).module()
    for given in (x, other):
        assert relative_error(free(given), layer(given)) < 1e-5


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [POINTWISE, STRIDED, GENERAL, VIDEO], ids=str)
def test_traces_with_any_batch_and_size(options):
    layer, x, other = graph_case(options)
    traced = torch.jit.trace(layer, x)
    assert relative_error(traced(other), layer(other)) < 1e-5


# In every run as a part of a backbone, in tests/models/test_deployment.py.
@pytest.mark.whole
@pytest.mark.parametrize("options", [POINTWISE, STRIDED], ids=str)
def test_exports_to_onnx_with_any_batch_and_size(options, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        pytest.skip("this torch has no ONNX export with dynamic_shapes")
    layer, x, other = graph_case(options)
    sizes = {dim: torch.export.Dim(f"d{dim}", min=2 if dim == 0 else 4, max=64) for dim in (0, 2, 3)}
    file = str(tmp_path / "aw.onnx")
    torch.onnx.export(layer, (x,), file, dynamo=True, dynamic_shapes=(sizes,), verbose=False)
    session = runtime.InferenceSession(file)
    for given in (x, other):
        (ours,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        assert relative_error(torch.from_numpy(ours), layer(given)) < 1e-5


def test_function_transforms():
    layer, x = build(padding=1).eval(), image(4)
    params = {name: p.detach() for name, p in layer.named_parameters()}
    state = dict(layer.named_buffers())

    def loss(params, x):
        return torch.func.functional_call(layer, {**params, **state}, (x,)).square().sum()

    grads = torch.func.grad(loss)(params, x)
    layer(x).square().sum().backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, **TOLERANCE)
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(params, x[:, None])
    torch.testing.assert_close(each["weight"].sum(0), layer.weight.grad, **TOLERANCE)


def test_the_attention_alone_has_the_kernel_s_shape():
    attention = AWAttention(4, 6, (3, 3), reduce_c1=2)
    assert attention(torch.randn(2, 4, 5, 5)).shape == (2, 6, 4, 3, 3)
    assert math.prod(AWAttention(4, 6, (3, 3))(torch.randn(2, 4, 5, 5)).shape) == 2 * 6 * 9


def test_all_forms_are_tested():
    """The fused one is in ``interpreted_kernels.py``."""
    assert {form for form, _ in FORM_CASES} | {"fused"} == set(FORMS)
