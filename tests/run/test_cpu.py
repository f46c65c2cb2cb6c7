"""CPU settings change the layout and no value."""

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


def test_networks_whose_backward_pass_would_corrupt_memory_keep_their_layout():
    narrow = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 1, stride=2))
    wider = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 1, stride=2))
    for net, moved in ((narrow, False), (wider, True)):
        prefer_channels_last(net)
        assert net[0].weight.is_contiguous(memory_format=torch.channels_last) == moved


def test_memory_setting_can_be_repeated():
    keep_freed_memory()
    keep_freed_memory()
    assert torch.ones(4096, 4096).sum() == 4096**2
