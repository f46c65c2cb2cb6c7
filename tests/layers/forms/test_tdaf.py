"""A map times a mask, written over the map, with the gradients of the plain product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_mm.layers.forms.tdaf import mask_in_place
from attn_mm.layers.ops.execution import as_written

PRODUCERS = {
    "relu": lambda x: F.relu(2 * x),
    "relu in place": lambda x: F.relu_(2 * x),
    "max pool": lambda x: F.max_pool2d(2 * x, 2),
    "sigmoid": lambda x: (2 * x).sigmoid(),
    "exp": lambda x: (2 * x).exp(),
    "product": lambda x: 2 * x,
}
IN_PLACE = ("relu", "relu in place", "max pool")


def randn(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype).requires_grad_()


def small_mask(logits):
    return F.max_pool2d(logits, 2).sigmoid() + 0.5


@pytest.mark.parametrize("last", [False, True], ids=["channels_first", "channels_last"])
@pytest.mark.parametrize("producer", PRODUCERS)
def test_value_and_gradients(producer, last):
    x, logits = randn(3, 4, 6, 8), randn(3, 1, 6, 8)
    produce = PRODUCERS[producer]

    def run(multiply):
        map_ = produce(x.contiguous(memory_format=torch.channels_last) if last else x)
        mask = (logits.sigmoid() + 0.5) if map_.shape[2:] == x.shape[2:] else small_mask(logits)
        place = map_.data_ptr()
        y = multiply(map_, mask)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        # Used twice, as by the next stage and the attention.
        return y, y.data_ptr() == place, torch.autograd.grad((weights * y.square() + y).sum(), (x, logits))

    y, in_place, grads = run(mask_in_place)
    expected, _, expected_grads = run(torch.mul)
    assert in_place == (producer in IN_PLACE)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-13, atol=1e-13)


def test_one_map_is_kept():
    x, logits = randn(2, 8, 6, 6), randn(2, 1, 6, 6)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = mask_in_place(F.relu(x), logits.sigmoid() + 0.5)
    maps = {t.data_ptr() for t in kept if t.shape == y.shape}
    assert maps == {y.data_ptr()}


def test_without_gradients_nothing_is_allocated():
    x, mask = torch.randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    expected, place = x * mask, x.data_ptr()
    with torch.inference_mode():
        y = mask_in_place(x, mask)
    assert y.data_ptr() == place and torch.equal(y, expected)


def test_a_frozen_map_and_a_frozen_mask():
    x, logits = torch.randn(2, 3, 4, 4).relu(), randn(2, 1, 4, 4, dtype=torch.float32)
    before = x.clone()
    y = mask_in_place(x, logits.sigmoid())
    (grad,) = torch.autograd.grad(y.sum(), logits)
    assert torch.equal(x, before) and grad.any()

    x, mask = randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4).double() + 0.5
    (grad,) = torch.autograd.grad(mask_in_place(x.relu(), mask).sum(), x)
    torch.testing.assert_close(grad, mask * (x > 0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype):
    x = (torch.randn(2, 16, 5, 5) * 3).to(dtype).requires_grad_()
    mask = (torch.rand(2, 1, 5, 5) + 0.5).to(dtype).requires_grad_()
    y = mask_in_place(x.relu(), mask)
    assert y.dtype == dtype
    grads = torch.autograd.grad(y.sum(), (x, mask))
    x_exact, mask_exact = (t.detach().double().requires_grad_() for t in (x, mask))
    expected = torch.autograd.grad((x_exact.relu() * mask_exact).sum(), (x_exact, mask_exact))
    eps = torch.finfo(dtype).eps
    for grad, exact in zip(grads, expected):
        torch.testing.assert_close(grad.double(), exact, rtol=2 * eps, atol=2 * eps)
    # A wider mask widens the product, as it does in torch.
    assert mask_in_place(x.relu(), mask.float()).dtype == torch.float32


def test_written_order_can_be_differentiated_twice():
    x, mask = randn(1, 2, 2, 2), (torch.rand(1, 1, 2, 2).double() + 0.5).requires_grad_()
    with as_written():
        assert torch.autograd.gradgradcheck(lambda x, m: mask_in_place(x.relu(), m), (x, mask))
    (grad,) = torch.autograd.grad(mask_in_place(x.relu(), mask).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


class _Masked(nn.Module):
    def forward(self, x, mask):
        return mask_in_place(x.relu(), mask)


def test_compiles():
    torch._dynamo.reset()
    x, mask = randn(2, 3, 4, 4), torch.rand(2, 1, 4, 4).double() + 0.5
    y = torch.compile(_Masked(), backend="aot_eager", fullgraph=True)(x, mask)
    torch.testing.assert_close(y, x.relu() * mask)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], mask * (x > 0))
