"""Glob patterns over the names of a network's modules."""

import pytest
from torch import nn

from attn_mm.graft.places import match_modules


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv1, self.conv2, self.act = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), act


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        act = nn.ReLU()
        self.stem = nn.Conv2d(3, 4, 1)
        self.stage1 = nn.Sequential(Block(act), Block(act))
        self.stage2 = nn.Sequential(nn.Sequential(Block(act)))


@pytest.mark.parametrize(
    "patterns, names",
    [
        ("stem", ["stem"]),
        ("stage?", ["stage1", "stage2"]),
        ("stage*.*.conv2", ["stage1.0.conv2", "stage1.1.conv2"]),
        ("**.conv2", ["stage1.0.conv2", "stage1.1.conv2", "stage2.0.0.conv2"]),
        ("stage2.**.conv[12]", ["stage2.0.0.conv1", "stage2.0.0.conv2"]),
        (["stage1.1", "stem"], ["stem", "stage1.1"]),
        ("**.act", ["stage1.0.act"]),
        ("stage2.0.0.act", ["stage2.0.0.act"]),
    ],
)
def test_matches(patterns, names):
    """``*`` stays within one part of a name, and a module that has several names counts once."""
    assert list(match_modules(Net(), "after", patterns)) == names


@pytest.mark.parametrize(
    "pattern, nearest",
    [
        ("stages1.*.conv2", "its parts are stage1, stage2"),
        ("stage*.*.convs", "in 'stage*.*' there are conv2, conv1"),
        ("**.cov2", "the nearest names are conv2, conv1"),
        ("stage1.0.conv1.weight", "'stage1.0.conv1' has no parts"),
        ("", "must be a pattern"),
        ((), "must be a pattern"),
        (3, "must be a pattern"),
        (["stem", 3], "must be a pattern"),
    ],
)
def test_what_matches_nothing_lists_the_nearest_names(pattern, nearest):
    with pytest.raises(ValueError, match="after") as error:
        match_modules(Net(), "after", pattern)
    assert nearest in str(error.value)
