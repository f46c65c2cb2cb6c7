"""What can be grafted onto 40 networks of torchvision and 40 of timm, and what it computes there."""

import json

import pytest
import torch
from torch import nn
from torch_grafts import check, shake

from attn_mm.describe.torch_networks import COLUMNS, TIMM, TORCHVISION, what_fits

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


@pytest.fixture(scope="module")
def recorded(repo):
    rows = json.loads((repo / "docs/results/torch_networks.json").read_text())
    return {(row["library"], row["network"]): row["refused"] for row in rows}


def test_the_table_has_every_network(recorded):
    assert len(TORCHVISION) == len(TIMM) == 40
    assert list(recorded) == [(network.library, network.title) for network in (*TORCHVISION, *TIMM)]


@pytest.mark.parametrize("network", NETWORKS)
def test_what_fits_is_recorded(network, recorded):
    found = what_fits(network)
    assert found == recorded[network.library, network.title] and tuple(found) == COLUMNS
    for reason in found.values():
        assert len(reason) < 200 and "\n" not in reason and "!!!" not in reason


@pytest.mark.whole
@pytest.mark.parametrize("network", NETWORKS)
def test_what_fits_keeps_the_network(network, recorded):
    plain, x = shake(network.build()), torch.randn(2, 3, *network.size)
    fits = recorded[network.library, network.title]
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
