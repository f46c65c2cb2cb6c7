"""What grafted modules start at survives every backbone's own rules, and yields to a checkpoint."""

from __future__ import annotations

import pytest
import torch
from grafted import build as grafted
from grafted import name
from mmengine.registry import MODELS

from attn_mm.layers import ANAR, AWConv2d, AWConv3d

BACKBONES = [
    ("mmdet.ResNet", 18),
    ("mmaction.ResNet", 18),
    ("mmaction.ResNet3d", 18),
    ("mmaction.ResNet3dSlowOnly", 50),
]
EACH = pytest.mark.parametrize("backbone", BACKBONES, ids=name)
AW = dict(type="attn_mm.AWConv", convs=("conv2",), start=0.1)


def starts(net):
    return [m.attention.norm2.bias.sigmoid() for m in net.modules() if isinstance(m, (AWConv2d, AWConv3d))]


@EACH
def test_of_aw_convolutions(backbone):
    net = grafted(backbone, [AW])
    for _ in range(2):
        assert starts(net) and all(start.allclose(torch.tensor(0.1)) for start in starts(net))
        net.init_weights()


def test_of_aw_convolutions_in_mmcvs_vgg(tmp_path):
    from mmcv.cnn import VGG

    graft = dict(AW, convs=("3x3",))
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=dict(type=VGG, depth=11), grafts=[graft]))
    net.init_weights()
    assert starts(net) and all(start.allclose(torch.tensor(0.1)) for start in starts(net))
    path = tmp_path / "aw.pth"
    torch.save({key: torch.full_like(value, 0.25) for key, value in net.state_dict().items()}, path)
    net.init_weights(str(path))
    assert all((p == 0.25).all() for p in net.parameters())


@EACH
def test_of_anars(backbone):
    """Their last layer's is small, for a mask near 1/2; a rule for all layers draws it by its fan."""
    net = grafted(backbone, [dict(type="attn_mm.TDAF", width=64)])
    net.init_weights()
    for anar in (m for m in net.modules() if isinstance(m, ANAR)):
        assert anar.mask.weight.abs().max() < 0.06


def test_a_checkpoint_of_mmactions_own_loading_stays(tmp_path):
    backbone = ("mmaction.ResNet3d", 18)
    state = grafted(backbone, [AW]).state_dict()
    path = tmp_path / "aw.pth"
    torch.save({key: torch.full_like(value, 0.25) for key, value in state.items()}, path)
    net = grafted(backbone, [AW], pretrained=str(path))
    net.init_weights()
    assert all((p == 0.25).all() for p in net.parameters())
