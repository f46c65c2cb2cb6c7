"""What can be grafted onto 40 networks of torchvision and 40 of timm, and what it computes there."""

import pytest
import torch
from torch import nn
from torch_grafts import check, shake

from attn_mm.describe.fitting import COLUMNS, what_fits
from attn_mm.describe.torch_networks import TIMM, TORCHVISION

pytest.importorskip("torchvision")
pytest.importorskip("timm")

THIN = {"resnet18, features_only"}
NETWORKS = [
    pytest.param(
        network,
        marks=() if network.title in THIN else pytest.mark.whole,
        id=f"{network.library}-{network.title}",
    )
    for network in (*TORCHVISION, *TIMM)
]


def test_there_are_forty_of_each():
    assert len(TORCHVISION) == len(TIMM) == 40
    assert len({(network.library, network.title) for network in (*TORCHVISION, *TIMM)}) == 80


@pytest.mark.parametrize("network", NETWORKS)
def test_a_refusal_is_one_line(network):
    found = what_fits(network.build().to("meta"), network.after)
    assert tuple(found) == COLUMNS and not found["after"]
    for reason in found.values():
        assert len(reason) < 200 and "\n" not in reason and "!!!" not in reason


@pytest.mark.whole
@pytest.mark.parametrize("network", NETWORKS)
def test_what_fits_keeps_the_network(network):
    plain, x = shake(network.build()), torch.randn(2, 3, *network.size)
    fits = what_fits(network.build().to("meta"), network.after)
    grafts = dict(
        outputs=dict(type=nn.Identity, outputs="all"),
        after=dict(type=nn.Identity, after=network.after),
        position=dict(type=nn.Identity),
        AWConv=dict(type="attn_mm.AWConv"),
        TD=dict(type="attn_mm.TD"),
        TDAF=dict(type="attn_mm.TDAF", flows=2, width=32),
    )
    for column, graft in grafts.items():
        if not fits[column]:
            check(plain, graft, x)
