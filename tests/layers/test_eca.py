"""ECA is a convolution over neighbouring channels' averages."""

from __future__ import annotations

import pytest
import torch
from layers import reference_gates as reference
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torchvision.models import resnet50

from attn_mm.layers.eca import ECA, eca_kernel_size


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 2, 7, 64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dims, size", [(d, s) for d in (2, 3) for s in reference.SIZES[d]], ids=str)
def test_equals_the_reference(dims, size, batch, channels):
    layer = reference.randomize(ECA(channels, dims=dims))
    reference.assert_equals(layer, randn(batch, channels, *size), reference.eca)


@pytest.mark.parametrize("dims", [2, 3])
def test_formats_and_compilation(dims):
    layer = reference.randomize(ECA(16, dims=dims))
    x = randn(2, 16, *(5, 4, 3)[:dims])
    reference.assert_robust(layer, x)
    reference.assert_compiles(layer, x)


def test_hooks_of_all_modules_see_the_convolution():
    seen = []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        ECA(8)(torch.randn(2, 8, 4, 4))
    finally:
        handle.remove()
    assert nn.Conv1d in seen


def test_a_convolution_of_another_class_is_called():
    class Half(nn.Conv1d):
        def forward(self, input):
            return super().forward(input) / 2

    layer, x = ECA(8).double(), randn(2, 8, 4, 4)
    weight = layer.conv.weight
    layer.conv = Half(1, 1, 3, padding=1, bias=False)
    layer.conv.weight = weight
    logits = weight.detach().flatten() @ nn.functional.pad(x.mean((2, 3)), (1, 1)).unfold(1, 3, 1).mT
    torch.testing.assert_close(layer.gate(x)[..., 0, 0], (logits / 2).sigmoid())


@pytest.mark.parametrize("gamma, beta", [(2, 1), (1, 0), (1.5, -3), (-2, 1)])
@pytest.mark.parametrize("exponent", [*range(0, 13)])
def test_kernel_size_is_the_nearest_odd_number(exponent, gamma, beta):
    wanted = abs((exponent + beta) / gamma)
    # Of two odd numbers as near as each other, the larger.
    assert eca_kernel_size(2**exponent, gamma, beta) == min(
        range(1, 99, 2), key=lambda odd: (abs(odd - wanted), -odd)
    )


def test_kernel_sizes_of_a_resnet():
    assert [eca_kernel_size(c) for c in (64, 128, 256, 512, 1024, 2048)] == [3, 5, 5, 5, 5, 7]
    assert ECA(2048).conv.weight.shape == (1, 1, 7)
    assert ECA(64, gamma=1, beta=3).conv.weight.shape == (1, 1, 9)


def test_parameters_are_the_published_ones():
    with torch.device("meta"):
        total = sum(p.numel() for p in resnet50().parameters())
        for blocks, width in zip((3, 4, 6, 3), (256, 512, 1024, 2048)):
            total += blocks * sum(p.numel() for p in ECA(width).parameters())
    assert total == 25_557_032 + 3 * 5 + 4 * 5 + 6 * 5 + 3 * 7
    assert round(total / 1e6, 2) == 25.56


def test_the_width_has_two_names():
    assert ECA(in_channels=2048).conv.weight.shape == (1, 1, 7)
    with pytest.raises(TypeError, match="expected the number of channels once"):
        ECA()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="dims must be 2 or 3, got 1"):
        ECA(16, dims=1)
