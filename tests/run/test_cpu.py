"""CPU settings change the layout and no value."""

import copy
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from attn_mm.run.cpu import keep_freed_memory, prefer_channels_last


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


def test_memory_setting_can_be_repeated():
    keep_freed_memory()
    keep_freed_memory()
    assert torch.ones(4096, 4096).sum() == 4096**2
