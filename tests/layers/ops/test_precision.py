"""The types that layers choose are those that torch's own operations would have, or wide enough for sums."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from attn_mm.layers.ops.precision import no_autocast, result_type, wide_type

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_result_type_is_that_of_a_convolution(dtype, autocast):
    x, weight = torch.ones(1, 1, 3, 3, dtype=dtype), torch.ones(1, 1, 1, 1, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert result_type(x) == F.conv2d(x, weight).dtype
        with no_autocast(x):
            assert result_type(x) == dtype == F.conv2d(x, weight).dtype


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_only_float64_is_wider_than_float32(dtype):
    assert wide_type(torch.ones(1, dtype=dtype)) == max(dtype, torch.float32, key=lambda t: t.itemsize)


def test_a_device_without_autocast():
    x = torch.ones(1, device="meta")
    with torch.autocast("cpu", torch.bfloat16), no_autocast(x):
        assert result_type(x) == torch.float32
        assert torch.is_autocast_enabled("cpu")
