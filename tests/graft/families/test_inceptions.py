"""Flows over GoogLeNet and Inception v3."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch_grafts import identity, shake

from attn_mm.errors import ConfigError
from attn_mm.models.grafting import graft_onto

models = pytest.importorskip("torchvision.models")
mmpretrain = pytest.importorskip("mmpretrain.models.backbones")

FLOWS = dict(type="attn_mm.TDAF", flows=2, width=32)
_TORCHVISION = dict(transform_input=True, init_weights=False)
NETWORKS = {
    "GoogLeNet": partial(models.GoogLeNet, 5, **_TORCHVISION),
    "Inception3": partial(models.Inception3, 5, **_TORCHVISION),
    "InceptionV3": partial(mmpretrain.InceptionV3, 5),
}


@pytest.mark.parametrize(
    "name", ["GoogLeNet", pytest.param("Inception3", marks=pytest.mark.whole), "InceptionV3"]
)
def test_flows_with_masks_of_one_change_nothing(name):
    plain = NETWORKS[name](aux_logits=False)
    for weight in plain.parameters():
        if weight.dim() > 1:
            nn.init.kaiming_normal_(weight)
    shake(plain).eval()
    net = graft_onto(copy.deepcopy(plain), [FLOWS])
    x = torch.rand(1, 3, 96, 96)
    with identity(), torch.no_grad():
        # mmpretrain's gives a tuple whose first item is None.
        torch.testing.assert_close(net(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_auxiliary_logits_are_refused(name):
    with torch.device("meta"):
        net = NETWORKS[name](aux_logits=True)
    with pytest.raises(ConfigError, match=r"aux_logits=True gives logits .* set it to False"):
        graft_onto(net, [FLOWS])
