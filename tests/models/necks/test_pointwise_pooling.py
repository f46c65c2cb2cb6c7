"""The neck with the layer that TDAF's published parameters include."""

from __future__ import annotations

import torch

from attn_mm.registry import MODELS


def test_it_averages_what_the_convolution_makes_of_the_last_map():
    neck = MODELS.build(dict(type="attn_mm.PointwisePooling", channels=6))
    maps = (torch.randn(2, 3, 8, 8), torch.randn(2, 6, 4, 5))
    (found,) = neck(maps)
    weight = neck.conv.weight.flatten(1)
    torch.testing.assert_close(found, torch.einsum("oc,nchw->no", weight, maps[1]) / 20)
    assert sum(p.numel() for p in neck.parameters()) == 36
