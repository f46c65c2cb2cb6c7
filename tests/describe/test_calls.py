"""Traced calls against arithmetic: which flow ran, what came out, what it cost."""

from __future__ import annotations

import torch
from torch import nn

from attn_mm.describe.calls import trace_calls
from attn_mm.graft.grafted import RunsStagesInFlows
from attn_mm.layers import flow
from attn_mm.layers.ops.execution import run_in_flow


class Recursion(RunsStagesInFlows):
    """Two stages, the second of which only the second flow runs; a branch gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.unused = nn.Linear(2, 2)
        self.branch = Branch()

    def flow_stages(self):
        return [lambda x: self.first(x).relu(), self.second]

    def forward(self, x):
        first, second = self.flow_stages()
        small = run_in_flow(0, first, x[..., ::2, ::2])
        with flow(1):
            large = second(first(x))
        return self.branch(small), large


class Branch(nn.Module):
    def forward(self, x):
        return {"same": x, "others": [x[:, :1], x.mean()]}


def test_calls_are_told_apart_by_flow():
    net = Recursion()
    calls = trace_calls(net, torch.rand(1, 2, 4, 6))
    assert [(c.flow, c.shapes, c.conv, c.full) for c in calls["first"]] == [
        (1, ((3, 2, 3),), 2 * 3 * 2 * 3, 2 * 3 * 2 * 3),
        (2, ((3, 4, 6),), 4 * 6 * 2 * 3, 4 * 6 * 2 * 3),
    ]
    # The first stage has a ReLU behind its convolution.
    assert [(c.flow, c.conv, c.full) for c in calls["flow_stages.0"]] == [
        (1, 36, 36 + 18),
        (2, 144, 144 + 72),
    ]
    (second,) = calls["flow_stages.1"]
    assert second == calls["second"][0]
    assert (second.flow, second.shapes, second.conv) == (2, ((5, 4, 6),), 4 * 6 * 3 * 5 * 9)
    assert calls["branch"][0].shapes == ((3, 2, 3), (1, 2, 3), ())
    (whole,) = calls[""]
    assert (whole.flow, whole.conv) == (None, 36 + 144 + second.conv)
    assert whole.full == whole.conv + 18 + 72
    assert "unused" not in calls


def test_the_network_is_left_as_it_was():
    net = Recursion().train()
    before = vars(net).keys()
    trace_calls(net, torch.rand(1, 2, 4, 6))
    assert vars(net).keys() == before and net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
