"""CPU settings change the layout and no value."""

import copy
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from convolutions import Convolutions
from torch import nn

from attn_mm.layers.ops.pooled_conv import FEW_POSITIONS
from attn_mm.run.cpu import (
    TinyMapMixin,
    keep_freed_memory,
    multiply_tiny_maps,
    prefer_channels_last,
)


def test_two_and_three_dimensional_convolutions():
    model = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(2, 2)])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    prefer_channels_last(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("channels", [1, 8, 15, 16])
def test_convolutions_whose_backward_pass_would_corrupt_memory_stay_contiguous(channels):
    net = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 32, 1, stride=2, bias=False))
    x = torch.randn(2, 3, 10, 9)
    expected = net(x)
    prefer_channels_last(net)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    inputs = []
    net[1].register_forward_hook(lambda module, args, y: inputs.append(args[0]))
    torch.testing.assert_close(copy.deepcopy(net)(x), expected)
    in_channels_last = (56 * channels, 1, 7 * channels, channels)
    assert (inputs[0].stride() == in_channels_last) == (channels == 16)


@pytest.mark.parametrize("cases", ["thin", pytest.param("whole", marks=pytest.mark.whole)])
def test_gradients_are_right_and_no_memory_is_corrupted(cases):
    debug = ctypes.util.find_library("c_malloc_debug") if sys.platform == "linux" else None
    # glibc then looks at every block of memory that is freed.
    check = dict(LD_PRELOAD=debug, MALLOC_CHECK_="3") if debug else {}
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("layout_sweep.py"), cases],
        env=os.environ | check,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-300:] + run.stderr[-300:]


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 3), (5, 4), (8, 8)])
def test_tiny_maps_are_the_convolutions(kernel, stride, padding, size):
    if min(size) + 2 * padding < kernel:
        pytest.skip("torch refuses such a map")
    conv = nn.Conv2d(4, 5, kernel, stride, padding, bias=kernel == 3).double()
    ours = copy.deepcopy(conv)
    prefer_channels_last(ours)
    multiply_tiny_maps(ours)
    x = torch.randn(2, 4, *size, dtype=torch.double).contiguous(memory_format=torch.channels_last)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    with Convolutions() as seen:
        y = ours(inputs[0])
    tiny = y.shape[2] * y.shape[3] <= FEW_POSITIONS
    assert seen.number == (not tiny)
    expected = conv(inputs[1])
    torch.testing.assert_close(y, expected)
    assert not tiny or y.is_contiguous(memory_format=torch.channels_last)
    slope = torch.randn_like(expected)
    y.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for one, other in zip(ours.parameters(), conv.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_other_convolutions_stay_torchs():
    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, (1, 3)),
        nn.Conv2d(4, 4, 3, padding=(0, 1)),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 7),
        nn.Conv3d(4, 4, 1),
        Own(4, 4, 3),
    ]
    net = nn.ModuleList([*others, nn.Conv2d(4, 4, 3)])
    kinds = [type(module) for module in net]
    names = list(net.state_dict())
    multiply_tiny_maps(net)
    assert [type(module) for module in net][:-1] == kinds[:-1]
    assert isinstance(net[-1], TinyMapMixin) and list(net.state_dict()) == names
    assert isinstance(copy.deepcopy(net)[-1], TinyMapMixin)
    # Without a batch, and with an empty one.
    assert net[-1](torch.ones(4, 3, 3)).shape == (4, 1, 1)
    assert net[-1](torch.ones(0, 4, 3, 3)).shape == (0, 4, 1, 1)


def test_memory_setting_can_be_repeated():
    keep_freed_memory()
    keep_freed_memory()
    assert torch.ones(4096, 4096).sum() == 4096**2
