"""FCA is squeeze-and-excitation with one of 16 DCT components for each part of the channels."""

from __future__ import annotations

import copy

import pytest
import torch
from layers import reference_gates as reference
from torchvision.models import resnet50, resnet101

from attn_mm.layers.fca import FCA
from attn_mm.layers.se import SE


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(
    "channels, side, shape",
    [
        (16, 7, (2, 7, 7)),
        (32, 7, (1, 9, 8)),
        (48, 7, (2, 14, 3)),
        (16, 7, (2, 1, 1)),
        (16, 14, (1, 15, 14)),
        (16, 10, (2, 11, 10)),
        (32, 7, (2, 3, 8, 7)),
        (16, 7, (1, 1, 7, 7)),
    ],
    ids=str,
)
def test_equals_the_reference(channels, side, shape):
    batch, *size = shape
    layer = reference.randomize(FCA(channels, reduction=4, size=side, dims=len(size)))
    reference.assert_equals(
        layer, randn(batch, channels, *size), lambda x, params: reference.fca(x, params, side)
    )


def test_a_constant_map_has_only_its_average():
    """All components but the lowest vanish; that one is the average times the side."""
    layer, se = FCA(64, reduction=4).double(), SE(64, reduction=4).double()
    layer.load_state_dict(se.state_dict())
    x = torch.zeros(1, 64, 7, 7, dtype=torch.float64)
    x[:, :4] = 1.7  # The first of 16 parts.
    torch.testing.assert_close(layer(x), x * se.mlp(7 * x.mean((2, 3), keepdim=True)).sigmoid())
    x[:, 4:] = 1.7
    torch.testing.assert_close(layer(x), x * layer(x)[:, :, :1, :1] / 1.7)
    rest = layer.squeeze(x)[:, 4:]
    assert rest.abs().max() < 1e-12


def test_the_components_are_orthonormal():
    basis = FCA(16, reduction=4).double().basis.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("dims", [2, 3])
def test_formats_and_compilation(dims):
    layer = reference.randomize(FCA(32, reduction=8, dims=dims))
    x = randn(2, 32, *(5, 7, 8)[-dims:])
    reference.assert_robust(layer, x)
    reference.assert_compiles(layer, x)
    reference.assert_compiles(layer, randn(2, 32, *(5, 7, 7)[-dims:]))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_takes_other_sizes():
    layer = reference.randomize(FCA(32, reduction=8))
    traced = torch.jit.trace(layer, randn(1, 32, 7, 7))
    x = randn(2, 32, 14, 9)
    torch.testing.assert_close(traced(x), layer(x))


def test_the_state_is_that_of_se():
    assert FCA(64).state_dict().keys() == SE(64).state_dict().keys()


def test_the_components_follow_the_parameters():
    layer = FCA(16, reduction=4)
    assert layer.basis.dtype == torch.float32
    exact = copy.deepcopy(layer).double().basis
    assert layer.half().basis.dtype == torch.float16
    assert torch.equal(layer.double().basis, exact)
    with torch.device("meta"):
        empty = FCA(16, reduction=4)
    assert torch.equal(empty.double().to_empty(device="cpu").basis, exact)


@pytest.mark.parametrize("net, blocks, published", [(resnet50, 6, 28.07), (resnet101, 23, 49.29)])
def test_parameters_are_the_published_ones(net, blocks, published):
    with torch.device("meta"):
        total = sum(p.numel() for p in net().parameters())
        for times, width in zip((3, 4, blocks, 3), (256, 512, 1024, 2048)):
            total += times * sum(p.numel() for p in FCA(width).parameters())
    assert round(total / 1e6, 2) == published


def test_the_width_has_two_names():
    assert FCA(in_channels=32).mlp[0].weight.shape == (2, 32, 1, 1)
    with pytest.raises(TypeError, match="expected the number of channels once"):
        FCA()


@pytest.mark.parametrize(
    "channels, options, message",
    [
        (24, dict(), "channels must be a multiple of 16, one part per component, got 24"),
        (32, dict(size=6), "size must be at least 7, the size of the frequencies' grid, got 6"),
        (32, dict(dims=1), "dims must be 2 or 3, got 1"),
        (32, dict(reduction=33), r"reduction must be in 1..32 \(the number of channels\), got 33"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(channels, options, message):
    with pytest.raises(ValueError, match=message):
        FCA(channels, **options)
