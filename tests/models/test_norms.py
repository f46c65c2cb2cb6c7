"""``norm_cfg`` builds multi-flow norms wherever mmcv builds a norm."""

import pytest
import torch

import attn_mm  # noqa: F401
from attn_mm.layers import MFBN2d, MFBN3d


@pytest.mark.parametrize("cls, shape", [(MFBN2d, (2, 4, 3, 3)), (MFBN3d, (2, 4, 2, 3, 3))])
def test_norm_cfg(cls, shape):
    from mmcv.cnn import build_norm_layer

    name, norm = build_norm_layer(dict(type=f"attn_mm.{cls.__name__}", num_flows=3), 4, postfix=1)
    assert name == "bn1" and type(norm) is cls and norm.running_mean.shape == (3, 4)
    assert norm(torch.randn(shape)).shape == shape
