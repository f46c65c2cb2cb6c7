"""Shapes at once are those that torch finds."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import batch_norm, interpolate

from attn_mm.utils import meta_shapes
from attn_mm.utils.meta_shapes import MetaShapes


def norm(x, training):
    return batch_norm(x, *x.new_zeros(2, x.shape[1]), training=training)


CALLS = {
    "norm in training": lambda x: norm(x, True),
    "norm in evaluation": lambda x: norm(x, False),
    "nearest": lambda x: interpolate(x, scale_factor=2.5),
    "bilinear": lambda x: interpolate(x, size=(3, 9), mode="bilinear", align_corners=True),
    "bicubic": lambda x: interpolate(x, scale_factor=(2, 0.5), mode="bicubic"),
    "trilinear": lambda x: interpolate(x[:, :, None], scale_factor=2, mode="trilinear"),
}


@pytest.mark.parametrize("name", CALLS)
def test_are_torchs_own(name, monkeypatch):
    x = torch.empty(2, 3, 4, 6, device="meta", dtype=torch.float16)
    expected = CALLS[name](x)
    asked = []
    for operation, shape in meta_shapes._SHAPES.items():
        monkeypatch.setitem(meta_shapes._SHAPES, operation, lambda *a, f=shape: asked.append(1) or f(*a))
    with torch.no_grad(), MetaShapes():
        found = CALLS[name](x)
    assert asked, "torch found the shape itself"
    assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)


def test_values_stay_on_other_devices():
    x = torch.rand(2, 3, 4, 6)
    with MetaShapes():
        assert torch.equal(norm(x, True), batch_norm(x, None, None, training=True))
