"""1x1 convolutions of pooled maps are the same as products, at every size, in 2D and 3D."""

from __future__ import annotations

import pytest
import torch
from convolutions import Convolutions
from layers import reference_gates as reference
from torch import nn

from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.ops.pooled_conv import pooled_conv_class

SIZES = (1, 1), (1, 2), (3, 3), (4, 3), (1, 1, 1), (1, 3, 3)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_convolution(size, batch):
    dims = len(size)
    conv = pooled_conv_class(dims)(4, 6, 1).double()
    assert isinstance(conv, {2: nn.Conv2d, 3: nn.Conv3d}[dims])
    x = torch.randn(batch, 4, *size, dtype=torch.float64)
    found = reference.step(conv, x)
    # Written from the formula.
    weight = conv.weight.detach().flatten(1)
    assert found[0].is_contiguous()
    expected = sum(weight[:, c, None] * x.flatten(2)[:, c, None] for c in range(4))
    expected = (expected + conv.bias.detach()[:, None]).reshape(found[0].shape)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-12)
    with as_written():
        reference.assert_near(found, reference.step(conv, x), 1e-12)


@pytest.mark.parametrize(("size", "convolutions"), [((3, 3), 0), ((1, 3, 3), 0), ((2, 5), 1), ((2, 1, 5), 1)])
def test_is_a_product_for_few_positions(size, convolutions):
    conv, x = pooled_conv_class(len(size))(4, 6, 1), torch.randn(2, 4, *size)
    with Convolutions() as ran:
        conv(x)
    assert ran.number == convolutions
    with as_written(), Convolutions() as ran:
        conv(x)
    assert ran.number == 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_empty_batches(size):
    conv, x = pooled_conv_class(len(size))(4, 6, 1), torch.zeros(0, 4, *size, requires_grad=True)
    y = conv(x)
    y.sum().backward()
    assert y.shape == (0, 6, *size) and x.grad.shape == x.shape and not conv.weight.grad.any()


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="dims must be 2 or 3"):
        pooled_conv_class(1)
