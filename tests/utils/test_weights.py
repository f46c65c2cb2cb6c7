"""Weights that torch would load without complaint are found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attn_mm.utils.weights import without_wrapper, wrong_weight


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("anchors", torch.tensor([1.0, 2.0]))
        self.register_buffer("index", torch.tensor([1, 2]))
        self.register_buffer("phases", torch.tensor([1j, 2j]))


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("mask", [0.0, float("-inf")], None),
        ("mask", [0.0, float("nan")], "1 of 2 numbers in mask are NaN or infinite"),
        ("anchors", [0.0, float("inf")], "1 of 2 numbers in anchors are NaN or infinite"),
        ("anchors", [1, 2], "anchors has numbers of type int64, but the network's are float32"),
        ("index", [1.0, 2.0], None),
        ("index", [1.0, 2.5], "index has numbers of type float32, but the network's are int64"),
        ("index", [1.0, float("nan")], "index has numbers of type float32, but the network's are int64"),
        ("index", [True, False], None),
        ("phases", [1.0, 2.0], "phases has numbers of type float32, but the network's are complex64"),
        ("norm.running_var", [0.0, 1.0], None),
        ("norm.running_var", [-0.5, 1.0], "1 of 2 variances in norm.running_var are negative"),
        ("other", [1, 2], None),
        ("other", [1.0, float("nan")], "1 of 2 numbers in other are NaN or infinite"),
        (
            "other.running_mean",
            [1.0, float("inf")],
            "1 of 2 numbers in other.running_mean are NaN or infinite",
        ),
    ],
)
def test_wrong_weight(name, value, fault):
    assert wrong_weight(Net(), {name: torch.tensor(value)}) == fault


def test_a_wrappers_prefix_is_removed():
    assert without_wrapper({"module.a": 1, "b.module.c": 2}) == {"a": 1, "b.module.c": 2}
