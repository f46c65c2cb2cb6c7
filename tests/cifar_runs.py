"""Short runs of a tiny network for the tests of the CIFAR-10 benchmark."""

from __future__ import annotations

import torch
from torch import nn


class Tiny(nn.Module):
    """A classifier of few weights, called like mmpretrain's."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4)
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(4, 10)

    def forward(self, x, mode):
        assert mode == "tensor"
        return self.linear(self.dropout(self.norm(self.conv(x)).relu().mean((2, 3))))


def advance(run, epochs=1):
    for _ in range(epochs):
        run.begin_epoch()
        for size in run.sizes:
            run.step(size)
        run.end_epoch()


def same(run, other):
    mine, theirs = run.state(), other.state()
    assert (run.epoch, run.losses) == (other.epoch, other.losses)
    for name, value in mine["weights"].items():
        assert torch.equal(value, theirs["weights"][name]), name
    assert all(map(torch.equal, mine["momenta"], theirs["momenta"]))
    return True
