"""CBAM is a channel gate and then a spatial gate; the AW paper's variants leave parts out."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from layers import reference_gates as reference
from torch import nn
from torchvision.models import resnet18, resnet50, resnet101, resnext50_32x4d

from attn_mm.layers.cbam import CBAM
from attn_mm.layers.se import SE

BLOCKS = {
    resnet18: (2, 2, 2, 2),
    resnet50: (3, 4, 6, 3),
    resnet101: (3, 4, 23, 3),
    resnext50_32x4d: (3, 4, 6, 3),
}


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def build(channels=6, **options):
    layer = reference.randomize(CBAM(channels, reduction=2, **options))
    if layer.spatial is not None:
        nn.init.constant_(layer.spatial[1].running_mean, 0.3)
        nn.init.constant_(layer.spatial[1].running_var, 0.7)
    return layer


VARIANTS = [dict(), dict(spatial=False), dict(max_pool=False)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "dims, batch, size", [(2, 1, (5, 3)), (2, 2, (4, 9)), (2, 3, (1, 1)), (3, 2, (3, 2, 4))], ids=str
)
def test_equals_the_reference(dims, batch, size, training, variant, bias):
    kernel = 3 if dims == 3 else 7
    layer = build(dims=dims, kernel_size=kernel, bias=bias, **variant).train(training)
    seen = []

    def norm(x):
        seen.append(x.detach())
        mean, variance = reference.batch_statistics(x) if training else (0.3, 0.7)
        return (x - mean) / (variance + 1e-5) ** 0.5

    def formula(x, params):
        return reference.cbam(x, params, norm, **variant)

    reference.assert_equals(layer, randn(batch, 6, *size), formula)
    if training and layer.spatial is not None:
        mean, variance = reference.batch_statistics(seen[0])
        unbiased = variance * seen[0].numel() / (seen[0].numel() - 1)
        running = layer.spatial[1]
        torch.testing.assert_close(running.running_mean[0], 0.99 * 0.3 + 0.01 * mean, **reference.TOLERANCE)
        torch.testing.assert_close(
            running.running_var[0], 0.99 * 0.7 + 0.01 * unbiased, **reference.TOLERANCE
        )


def test_the_default_kernel_is_7_wide():
    assert CBAM(16).spatial[0].weight.shape == (1, 2, 7, 7)
    assert CBAM(16, dims=3).spatial[0].weight.shape == (1, 2, 7, 7, 7)


def test_the_variants_have_the_parts_of_their_names():
    assert CBAM(16, spatial=False).spatial is None
    # Without max-pooled features the shared layers are SE's.
    se, spatial = SE(16, reduction=4).double(), CBAM(16, reduction=4, max_pool=False).double()
    spatial.load_state_dict(se.state_dict(), strict=False)
    nn.init.zeros_(spatial.spatial[1].weight)
    x = randn(2, 16, 5, 5)
    torch.testing.assert_close(spatial(x), se(x) / 2)


@pytest.mark.parametrize(
    "dims, training",
    [
        pytest.param(dims, training, marks=() if training == (dims == 2) else pytest.mark.whole)
        for dims, training in product((2, 3), (True, False))
    ],
)
def test_formats_and_compilation(dims, training):
    layer = build(8, dims=dims, bias=True, kernel_size=3).train(training)
    x = randn(2, 8, *(5, 4, 3)[:dims])
    reference.assert_robust(layer, x)
    reference.assert_compiles(layer, x)


@pytest.mark.parametrize(
    "net, classes, stem, bias, published",
    [
        (resnet50, 1000, 7, False, 28.07),
        (resnet101, 1000, 7, False, 49.29),
        (resnet50, 100, 3, True, 26.24),
        (resnet101, 100, 3, True, 47.48),
        (resnext50_32x4d, 100, 3, True, 25.71),
        (resnet18, 100, 3, True, 11.31),
    ],
)
def test_parameters_are_the_published_ones(net, classes, stem, bias, published):
    widths = (64, 128, 256, 512) if net is resnet18 else (256, 512, 1024, 2048)
    with torch.device("meta"):
        total = sum(p.numel() for p in net(num_classes=classes).parameters())
        total += 3 * 64 * (stem**2 - 7**2)
        for blocks, width in zip(BLOCKS[net], widths):
            total += blocks * sum(p.numel() for p in CBAM(width, bias=bias).parameters())
    # Rounded, or cut off as ResNet-101's 49.296M.
    assert published - 0.005 <= total / 1e6 < published + 0.01


def test_the_width_has_two_names():
    assert CBAM(in_channels=32).mlp[0].weight.shape == (2, 32, 1, 1)
    with pytest.raises(TypeError, match="expected the number of channels once"):
        CBAM()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(dims=1), "dims must be 2 or 3, got 1"),
        (dict(reduction=17), r"reduction must be in 1..16 \(the number of channels\), got 17"),
        (dict(kernel_size=4), "kernel_size must be odd, got 4"),
        (dict(kernel_size=-1), "kernel_size must be odd, got -1"),
        (dict(spatial=False, max_pool=False), "CBAM without spatial and max_pool is SE"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CBAM(16, **options)
