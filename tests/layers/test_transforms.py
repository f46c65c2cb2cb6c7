"""Layers in the transforms of torch.func and in forward-mode AD, which know torch's own operations only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap

from attn_mm import attach
from attn_mm.layers import AWConv2d
from attn_mm.layers.aa_conv import AAConv2d
from attn_mm.layers.forms.tdaf import mask_in_place
from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.tam import TAM


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.mask = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        return mask_in_place(self.before(x), self.mask(x).sigmoid())


def block_with_feedback():
    from torchvision.models.resnet import BasicBlock

    net = nn.Sequential()
    net.layer1 = BasicBlock(8, 8)
    attach(net, dict(type="TD", stages=(0,), reduction=2))
    for norm in (net.layer1.bn1, net.layer1.bn2):
        nn.init.uniform_(norm.bias, 0.1, 1)
    return net


NETS = {
    "TAM": lambda: TAM(8),
    "AWConv": lambda: AWConv2d(8, 16, 3, padding=1),
    "AAConv": lambda: AAConv2d(8, 16, 3, padding=1, dk=8, dv=8, heads=2, relative=False),
    "TD": block_with_feedback,
    "TDAF": Masked,
}


@pytest.mark.parametrize("name", NETS)
def test_gradients_for_each_sample(name):
    net = replace_all_batch_norm_modules_(NETS[name]().double())
    x = torch.randn(3, 8, 5, 5, dtype=torch.float64)
    parameters = dict(net.named_parameters())

    def loss(values, sample):
        return functional_call(net, values, (sample[None],)).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))({k: p.detach() for k, p in parameters.items()}, x)
    net(x[1:2]).square().sum().backward()
    for key, parameter in parameters.items():
        torch.testing.assert_close(found[key][1], parameter.grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NETS)
def test_forward_mode(name):
    net = NETS[name]().double()
    x, direction = torch.randn(2, 2, 8, 5, 5, dtype=torch.float64)
    slopes = []
    for way in (torch.enable_grad, as_written):
        with way(), forward_ad.dual_level():
            slopes.append(forward_ad.unpack_dual(net(forward_ad.make_dual(x, direction))).tangent)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
