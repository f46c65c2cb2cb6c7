"""The tree of a network: what is collapsed, what is new, and numbers that add up."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attn_mm.describe.calls import trace_calls
from attn_mm.describe.module_tree import amounts, build_tree, describe, thousands, tree_text


def network(gate: bool = False) -> nn.Sequential:
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU()) for _ in range(4)]
    if gate:
        for block in blocks[1:3]:
            block.append(nn.Conv2d(4, 4, 1, bias=False))
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Sequential(*blocks), nn.AvgPool2d(2))


def tree_of(net, plain=None, **options):
    x = torch.rand(1, 3, 6, 6)
    calls = trace_calls(net, x)
    return build_tree(net, calls, plain and amounts(plain, trace_calls(plain, x)), **options)


def test_equal_siblings_are_one():
    stem, blocks, pool = tree_of(network(), is_block=lambda m: isinstance(m, nn.Sequential)).children
    assert (stem.detail, stem.outputs, stem.amount.params) == ("1x1 3>4", ((4, 6, 6),), 12)
    assert [(pool.type, pool.outputs)] == [("AvgPool2d", ((4, 3, 3),))]
    assert not blocks.children, "a block in which nothing was put stays closed"
    (run,) = tree_of(network()).children[1].children
    assert (run.name, run.repeat, run.type) == ("0-3", 4, "Sequential")
    assert run.amount.params == 4 * 4 * 9 and run.amount.conv == 36 * 4 * 4 * 9


def test_what_was_put_in_is_marked_and_counted():
    tree = tree_of(network(gate=True), network(), is_block=lambda m: isinstance(m, nn.Sequential))
    first, run, last = tree.children[1].children
    assert [(n.name, n.repeat) for n in (first, run, last)] == [("0", 1), ("1-2", 2), ("3", 1)]
    conv, gate = run.children
    assert not conv.new and gate.new and gate.added == gate.amount
    assert (gate.added.params, gate.added.conv) == (16, 36 * 16)
    assert (tree.added.params, tree.added.conv) == (2 * 16, 2 * 36 * 16)
    assert first.added.params == conv.added.conv == 0
    line = next(line for line in tree_text(tree).splitlines() if "+ 2" in line)
    assert "Conv2d 1x1 4>4" in line and line.split()[-2:] == ["+16", "+576"]


def test_a_part_is_compared_alone():
    """What lies outside of the part that the plain amounts are of is not compared."""
    net, plain = network(gate=True), network()
    x = torch.rand(1, 3, 6, 6)
    found = {name: a for name, a in amounts(plain, trace_calls(plain, x)).items() if name.startswith("1")}
    tree = build_tree(net, trace_calls(net, x), found)
    assert tree.added is None and tree.children[0].added is None
    assert tree.children[1].added.params == 32


def test_lines_are_a_node_each_with_their_columns():
    lines = tree_text(tree_of(network())).splitlines()
    assert lines[0].split() == ["output", "calls", "parameters", "MACs"], "nothing is compared"
    assert [line.split("  ")[0].strip() for line in lines[1:4]] == [
        "Sequential",
        "├─ 0: Conv2d 1x1 3>4",
        "├─ 1: Sequential",
    ]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(4, 6, 3, 2), "3x3 4>6 /2"),
        (nn.ConvTranspose3d(4, 2, 4, 2), "4x4x4 4>2 *2"),
        (nn.Conv3d(4, 4, (1, 3, 3), (1, 2, 2), groups=4), "1x3x3 4>4 groups 4 /1x2x2"),
        (nn.Linear(3, 7), "3>7"),
        (nn.BatchNorm2d(5), "5"),
        (nn.ReLU(), ""),
        (nn.Sequential(*[nn.Linear(2, 2)] * 1, nn.Linear(2, 3)), "2>2, 2>3"),
        (nn.Sequential(*(nn.Linear(i, i + 1) for i in range(1, 8))), "1>2, 2>3, 3>4, 4>5, 5>6, ..."),
    ],
)
def test_layers_are_described(layer, text):
    assert describe(layer) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (999_960, "1.00 M"),
        (99_960, "100 k"),
        (9_996_000, "10.0 M"),
        (25_557_032, "25.6 M"),
        (-164371, "-164 k"),
    ],
)
def test_numbers_have_three_digits(number, text):
    assert thousands(number) == text
    assert thousands(number, sign=True) == ("+" if number > 0 else "") + text
