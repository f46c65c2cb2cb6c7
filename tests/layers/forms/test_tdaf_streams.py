"""Flows on streams of their own wait for what they need, and are waited for."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from attn_mm.layers.forms import tdaf_streams as flow_streams
from attn_mm.layers.forms.tdaf_streams import run_flows
from attn_mm.layers.ops.execution import current_flow


class Stream:
    """A stream that writes down who waits for whom."""

    log: list = []  # noqa: RUF012

    def __init__(self, name):
        self.name = name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class Map:
    """A map on a device that is not there."""

    is_cuda, device = True, "cuda:0"

    def __init__(self, name):
        self.name = name

    def record_stream(self, stream):
        Stream.log.append(f"{self.name} used by {stream.name}")


@pytest.fixture
def device(monkeypatch):
    """A device whose streams and runs are written down."""
    here, running = Stream("here"), []
    monkeypatch.setattr(Stream, "log", [])
    monkeypatch.setattr(flow_streams, "_stream", lambda device, flow: Stream(f"stream {flow}"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here)

    @contextmanager
    def on(stream):
        running.append(stream.name)
        yield
        running.pop()

    monkeypatch.setattr(torch.cuda, "stream", on)
    return running


def test_the_flows_of_a_stage_run_on_their_own_streams(device):
    def stage(x):
        Stream.log.append(f"flow {current_flow()} of {x.name} on {device[-1]}")
        return Map(f"y{current_flow()}")

    maps = [None, Map("x1"), Map("x2")]
    run_flows(stage, maps, 1, streams=True)
    assert current_flow() is None
    assert maps[0] is None and [m.name for m in maps[1:]] == ["y1", "y2"]
    assert Stream.log == [
        "stream 1 waits for here",
        "x1 used by stream 1",
        "flow 1 of x1 on stream 1",
        "stream 2 waits for here",
        "x2 used by stream 2",
        "flow 2 of x2 on stream 2",
        "here waits for stream 1",
        "y1 used by here",
        "here waits for stream 2",
        "y2 used by here",
    ]


def test_the_first_flow_casts_the_weights_for_all(device, monkeypatch):
    def stage(x):
        assert torch.is_autocast_cache_enabled()
        Stream.log.append(f"flow {current_flow()} on {device[-1] if device else 'here'}")
        return x

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    run_flows(stage, [Map("x0"), Map("x1"), Map("x2")], 0, streams=True)
    assert Stream.log == [
        "flow 0 on here",
        "stream 1 waits for here",
        "x1 used by stream 1",
        "flow 1 on stream 1",
        "stream 2 waits for here",
        "x2 used by stream 2",
        "flow 2 on stream 2",
        "here waits for stream 1",
        "x1 used by here",
        "here waits for stream 2",
        "x2 used by here",
    ]


def test_one_after_the_other_where_not_asked_or_captured(device, monkeypatch):
    for streams, traced in ((False, False), (True, True)):
        monkeypatch.setattr(flow_streams, "is_traced", lambda traced=traced: traced)
        maps = [Map("x0"), Map("x1")]
        run_flows(lambda x: x, maps, 0, streams)
    assert Stream.log == []


def test_on_a_cpu_the_option_changes_nothing():
    maps = [torch.ones(1), torch.ones(1)]
    run_flows(lambda x: x + current_flow(), maps, 0, streams=True)
    assert [m.item() for m in maps] == [1, 2]
