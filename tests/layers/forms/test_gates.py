"""Gates in training: the formulas' gradients to any order, and nothing kept of a map's size but the input."""

from __future__ import annotations

import copy
import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from layers import reference_gates as reference
from thinned import thinned
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from attn_mm.layers import CBAM, ECA, SE
from attn_mm.layers.forms import gates
from attn_mm.layers.ops import pieces
from attn_mm.layers.ops.execution import as_written

CHANNELS = 8
LAYERS = {
    "SE": lambda dims: SE(CHANNELS, reduction=2, dims=dims),
    "ECA": lambda dims: ECA(CHANNELS, dims=dims),
    "CBAM": lambda dims: CBAM(CHANNELS, reduction=2, kernel_size=3, dims=dims),
    "CBAM, channels": lambda dims: CBAM(CHANNELS, reduction=2, spatial=False, dims=dims),
    "CBAM, averages": lambda dims: CBAM(CHANNELS, reduction=2, max_pool=False, kernel_size=3, dims=dims),
}
SIZES = {2: (4, 5), 3: (3, 2, 4)}


def made(name, dims=2, batch=3):
    """A layer in float64, its input and a shortcut."""
    layer = reference.randomize(LAYERS[name](dims))
    x, shortcut = torch.randn(2, batch, CHANNELS, *SIZES[dims], dtype=torch.float64)
    return layer, x, shortcut


def gradients(layer, x, shortcut=None, create_graph=False):
    """The output and all gradients, of one step of a copy."""
    layer, x = copy.deepcopy(layer), x.clone(memory_format=torch.preserve_format).requires_grad_()
    inputs = [x, *layer.parameters()]
    if shortcut is None:
        y = layer(x)
    else:
        shortcut = shortcut.clone(memory_format=torch.preserve_format).requires_grad_()
        inputs.append(shortcut)
        y = layer.add_to(shortcut, x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights * y).sum(), inputs, create_graph=create_graph)], inputs


def assert_as_written(layer, x, shortcut):
    for added in (None, shortcut):
        found, _ = gradients(layer, x, added)
        with as_written():
            if added is None:
                expected, _ = gradients(layer, x)
            else:
                expected, _ = gradients(Sum(layer), x, added)
        reference.assert_near(found, expected, 1e-12)


class Sum(nn.Module):
    """The sum as it is written."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def add_to(self, shortcut, x):
        return shortcut + self.layer(x)


CASES = [(name, dims, last) for name in LAYERS for dims in (2, 3) for last in (False, True)]


@pytest.mark.parametrize("name, dims, last", thinned(CASES, CASES[::3] + CASES[8:12], True))
@pytest.mark.parametrize("elements", [1, 2 * 8 * 20, 10**6])
def test_layouts_and_pieces(name, dims, last, elements, monkeypatch):
    monkeypatch.setitem(pieces._SAMPLES, "cpu", elements)
    maps = made(name, dims)
    if last:
        layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
        maps = maps[0], *(map_.contiguous(memory_format=layout) for map_ in maps[1:])
        assert maps[0](maps[1].requires_grad_()).is_contiguous(memory_format=layout)
    assert_as_written(*(maps[0], *(map_.detach() for map_ in maps[1:])))


@pytest.mark.parametrize("name", ["CBAM", "CBAM, channels"])
@pytest.mark.parametrize("values", [1, 2])
def test_equal_maxima_share_the_gradient(name, values):
    """As in a map that a norm with a scale of zero gives, where all is equal."""
    layer, x, shortcut = made(name)
    assert_as_written(layer, torch.randint(values, x.shape).to(x), shortcut)


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives(name):
    layer, x, shortcut = made(name)

    def second(way):
        first, inputs = gradients(way, x, shortcut, create_graph=True)
        total = sum((part.sin() * (1 + i)).sum() for i, part in enumerate(first))
        return torch.autograd.grad(total, inputs)

    found = second(layer)
    with as_written():
        expected = second(Sum(layer))
    assert all(part.abs().sum() > 0 for part in expected)
    reference.assert_near(found, expected, 1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_many_outputs_at_once(name):
    layer, x, shortcut = made(name)
    inputs = [x.requires_grad_(), *layer.parameters()]

    def rows(y, **options):
        outputs = y.sum((1, 2, 3))
        return torch.autograd.grad(outputs, inputs, torch.eye(len(y), dtype=y.dtype), **options)

    found = rows(layer.add_to(shortcut, 2 * x).square(), is_grads_batched=True)
    with as_written():
        expected = rows((shortcut + layer(2 * x)).square(), is_grads_batched=True)
    reference.assert_near(found, expected, 1e-10)


@contextmanager
def no_collector():
    """In this context only what nothing refers to is gone."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_serves_twice_and_then_is_gone(name):
    layer, x, shortcut = made(name)
    # Any operation written in Python: only its node can be watched.
    before = gates._Pool.apply(x.requires_grad_(), False, gates._Left())[1]
    graph = weakref.ref(before.grad_fn)
    y = layer.add_to(shortcut, before)
    first, second = (torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    with no_collector():
        del y, before
        assert graph() is None, "a cycle keeps the graph"


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_part_leave_no_graph_behind(name, create_graph):
    layer, x, _ = made(name)
    before = gates._Pool.apply(x.requires_grad_(), False, gates._Left())[1]
    graph = weakref.ref(before.grad_fn)
    y = layer(before)
    torch.autograd.grad(y.sum(), list(layer.parameters()), create_graph=create_graph)
    with no_collector():
        del y, before
        assert graph() is None, "a cycle keeps the graph"


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing(name, use_reentrant):
    layer, x, shortcut = made(name)
    x.requires_grad_()

    def add(x):
        return layer.add_to(shortcut, 2 * x)

    (expected,) = torch.autograd.grad(add(x).square().sum(), x)
    checkpoint(add, x, use_reentrant=use_reentrant).square().sum().backward()
    reference.assert_near([x.grad], [expected], 1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_of_the_maps_size_only_the_input_is_kept(name):
    layer, x, shortcut = made(name)
    kept = set()

    def keep(tensor):
        if tensor.numel() >= x.numel() // 2:
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer.add_to(shortcut, x.requires_grad_() * 1)
    assert len(kept) == 1 and y.untyped_storage().data_ptr() not in kept


@pytest.mark.parametrize("name", LAYERS)
def test_parts_that_are_not_trained(name):
    layer, x, shortcut = made(name)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    x.requires_grad_()
    (found,) = torch.autograd.grad(layer.add_to(shortcut, x).square().sum(), x)
    with as_written():
        (expected,) = torch.autograd.grad((shortcut + layer(x)).square().sum(), x)
    reference.assert_near([found], [expected], 1e-12)
    trained = next(layer.parameters()).requires_grad_()
    (found,) = torch.autograd.grad(layer.add_to(shortcut, x.detach()).square().sum(), trained)
    with as_written():
        (expected,) = torch.autograd.grad((shortcut + layer(x.detach())).square().sum(), trained)
    reference.assert_near([found], [expected], 1e-12)


@pytest.mark.parametrize("name", ["SE", "CBAM"])
def test_gates_of_a_subclass_are_used(name):
    cls, method = {"SE": (SE, "gate"), "CBAM": (CBAM, "channel_gate")}[name]
    half = type("Half", (cls,), {method: lambda self, x: getattr(cls, method)(self, x) / 2})
    layer = reference.randomize(half(CHANNELS, reduction=2))
    _, x, shortcut = made(name)
    assert_as_written(layer, x, shortcut)


def test_it_is_left_to_training():
    x = torch.ones(1, 1, 2, 2)
    assert not gates.fits(x, 2)
    x.requires_grad_()
    assert gates.fits(x, 2) and gates.fits(x, 2, x) and not gates.fits(x, 2, x.double())
    assert not gates.fits(x, 3) and not gates.fits(x[0], 2)
    with torch.no_grad():
        assert not gates.fits(x, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert not gates.fits(x, 2) and gates.fits(x.bfloat16(), 2)
    assert not gates.fits(x[:0], 2)


@pytest.mark.parametrize("name", ["SE", "ECA"])
@pytest.mark.parametrize("trained", [True, False])
def test_a_map_without_a_batch_dimension(name, trained):
    """As many rows as channels, so that no size tells them apart."""
    layer, _, _ = made(name)
    x = torch.randn(CHANNELS, CHANNELS, 5, dtype=torch.float64, requires_grad=trained)
    reference.assert_near([layer(x)], [layer(x[None])[0]], 1e-12)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("trained", [True, False])
def test_images_layers_refuse_videos(name, trained):
    layer, _, _ = made(name)
    x = torch.randn(2, CHANNELS, 3, 4, 5, dtype=torch.float64, requires_grad=trained)
    with pytest.raises(RuntimeError, match="input"):
        layer(x)


@pytest.mark.parametrize("name", ["SE", "CBAM"])
def test_a_second_derivative_after_gradients_of_a_part(name):
    """These leave a gate that nobody takes."""
    layer, x, _ = made(name)
    x.requires_grad_()
    y = layer(x)
    torch.autograd.grad(y.sum(), list(layer.parameters()), retain_graph=True)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with as_written():
        (expected,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    seconds = (torch.autograd.grad(part.sin().sum(), x)[0] for part in (first, expected))
    reference.assert_near([first.detach(), next(seconds)], [expected.detach(), next(seconds)], 1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_bfloat16_is_as_near_as_written(name):
    layer, x, shortcut = made(name)
    exact, _ = gradients(Sum(layer), x, shortcut)
    layer, x, shortcut = layer.bfloat16(), x.bfloat16(), shortcut.bfloat16()

    def error(found):
        return max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact))

    with as_written():
        written = error(gradients(Sum(layer), x, shortcut)[0])
    assert error(gradients(layer, x, shortcut)[0]) < 1.5 * written + 0.02
