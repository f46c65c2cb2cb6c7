"""SE is squeeze-and-excitation, with the parameter counts of the papers that compare with it."""

from __future__ import annotations

import pytest
import torch
from layers import reference_gates as reference
from torchvision.models import resnet50, resnet101

from attn_mm.layers.se import SE

RESNET_WIDTHS = {resnet50: (3, 4, 6, 3), resnet101: (3, 4, 23, 3)}


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dims, size", [(d, s) for d in (2, 3) for s in reference.SIZES[d]], ids=str)
def test_equals_the_reference(dims, size, batch, bias):
    layer = reference.randomize(SE(10, reduction=3, bias=bias, dims=dims))
    reference.assert_equals(layer, randn(batch, 10, *size), reference.se)


@pytest.mark.parametrize("dims", [2, 3])
def test_formats_and_compilation(dims):
    layer = reference.randomize(SE(8, reduction=2, bias=True, dims=dims))
    x = randn(2, 8, *(5, 4, 3)[:dims])
    reference.assert_robust(layer, x)
    reference.assert_compiles(layer, x)


@pytest.mark.parametrize(
    "build, classes, stem, bias, published",
    [
        (resnet50, 1000, 7, False, 28.07),
        (resnet101, 1000, 7, False, 49.29),
        (resnet50, 1000, 7, True, 28.09),
        (resnet101, 1000, 7, True, 49.33),
        (resnet50, 100, 3, False, 26.22),
        (resnet101, 100, 3, False, 47.44),
        (resnet50, 100, 3, True, 26.24),
    ],
)
def test_parameters_are_the_published_ones(build, classes, stem, bias, published):
    with torch.device("meta"):
        total = sum(p.numel() for p in build(num_classes=classes).parameters())
        total += 3 * 64 * (stem**2 - 7**2)
        for blocks, width in zip(RESNET_WIDTHS[build], (256, 512, 1024, 2048)):
            total += blocks * sum(p.numel() for p in SE(width, bias=bias).parameters())
    assert round(total / 1e6, 2) == published


def test_the_width_has_two_names():
    assert SE(in_channels=32).mlp[0].weight.shape == SE(32).mlp[0].weight.shape == (2, 32, 1, 1)
    with pytest.raises(TypeError, match="expected the number of channels once"):
        SE()
    with pytest.raises(TypeError, match="expected the number of channels once"):
        SE(32, in_channels=32)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(dims=1), "dims must be 2 or 3, got 1"),
        (dict(reduction=17), r"reduction must be in 1..16 \(the number of channels\), got 17"),
        (dict(reduction=0), "reduction must be in 1..16"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SE(16, **options)
