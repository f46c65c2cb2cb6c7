"""TD over both convolutions of a dense layer, by the formula."""

from __future__ import annotations

import copy

import pytest
import torch
from grafted import shake
from mmengine.registry import MODELS

pytest.importorskip("mmpretrain.models")

ARCH = dict(growth_rate=4, depths=[2, 2], init_channels=8)


def conv(layer, number, x, norm):
    return getattr(layer, f"conv{number}")(torch.relu(norm(x)))


def formula(layer, maps):
    """The first pass has the layer's own norms, the second those of its step."""
    x, norms = torch.cat(maps, 1), [layer.norm1, layer.norm2]
    for step in layer.td.norms:
        out = conv(layer, 2, conv(layer, 1, x, norms[0]), norms[1])
        x, norms = layer.td.attention(x, out), [step["conv1"], step["conv2"]]
    return conv(layer, 2, conv(layer, 1, x, norms[0]), norms[1])


@pytest.mark.parametrize("memory_efficient", [False, True])
def test_it_runs_on_the_concatenated_maps(memory_efficient):
    torch.manual_seed(0)
    backbone = dict(
        type="mmpretrain.DenseNet", arch=ARCH, out_indices=(0,), memory_efficient=memory_efficient
    )
    graft = dict(type="attn_mm.TD", distance=2, stages=(0,), reduction=2)
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=[graft]))
    layer = shake(net).double().train().get_submodule("stages.0.block.1")
    twin = copy.deepcopy(layer)
    ours = [torch.randn(2, width, 5, 7, dtype=torch.float64, requires_grad=True) for width in (8, 4)]
    theirs = [x.detach().requires_grad_() for x in ours]
    y, expected = layer(ours), formula(twin, theirs)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    y.square().sum().backward()
    expected.square().sum().backward()
    for x, z in zip([*ours, *layer.parameters()], [*theirs, *twin.parameters()], strict=True):
        torch.testing.assert_close(x.grad, z.grad, rtol=1e-9, atol=1e-9)
