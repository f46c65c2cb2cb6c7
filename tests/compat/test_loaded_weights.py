"""Damaged weights are refused, with their file's name, wherever mmengine loads weights."""

from __future__ import annotations

import pytest
import torch
from mmengine.runner import load_checkpoint
from small_network import Net

from attn_mm.errors import CheckpointError


def initialised(path):
    Net(init_cfg=dict(type="Pretrained", checkpoint=path)).init_weights()


def with_prefix(path):
    Net(init_cfg=dict(type="Pretrained", checkpoint=path, prefix="model")).init_weights()


def loaded(path):
    load_checkpoint(Net(), path)


@pytest.mark.parametrize("load", [initialised, with_prefix, loaded])
@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ([0.0, float("nan"), 1.0], "1 of 3 numbers in backbone.1.bias are NaN or infinite"),
        ([0, 1, 2], "backbone.1.bias has numbers of type int64, but the network's are float32"),
        ([0.0, 1.0, 2.0], None),
    ],
)
def test_each_way_of_loading(tmp_path, load, value, wrong):
    prefix = "model." if load is with_prefix else ""
    path = str(tmp_path / "w.pth")
    torch.save({f"{prefix}backbone.1.bias": torch.tensor(value)}, path)
    if wrong is None:
        load(path)
        return
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value) == f"{path} is damaged: {wrong}"
