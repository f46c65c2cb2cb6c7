"""Runs that take their steps in turn, and what happens around a CUDA graph, without a GPU."""

from __future__ import annotations

import contextlib

import pytest
import torch
from cifar_runs import advance, same


@pytest.fixture
def lanes(importable):
    from benchmarks import side_by_side

    return side_by_side


def test_runs_in_turns_end_like_runs_alone(lanes, start):
    alone = [start(seed=0), start(seed=1)]
    for run in alone:
        advance(run, 3)
    together = [start(seed=0), start(seed=1)]
    # One of them had finished an epoch when the training was interrupted.
    advance(together[1])
    steps, epochs = [], []
    lanes.train_in_turns(
        [lanes.Lane(run, torch.device("cpu")) for run in together],
        lambda: steps.append(1),
        lambda lane: epochs.append((together.index(lane.run), lane.run.epoch)),
    )
    assert all(map(same, together, alone))
    assert len(steps) == 2 * (3 + 2)
    assert epochs == [(0, 1), (1, 2), (0, 2), (1, 3), (0, 3)]
    assert all(run.seconds > 0 for run in together)


def test_a_step_that_cannot_be_recorded_says_why_and_changes_nothing(lanes, start):
    alone, run = start(), start()
    lane = lanes.Lane(run, torch.device("cpu"))
    lane.capture()
    # torch without CUDA can't make a graph.
    assert "CUDA" in lane.without_graph
    assert same(run, start())
    lanes.train_in_turns([lane], lambda: None, lambda _: None)
    advance(alone, 3)
    assert same(run, alone)


def test_whole_batches_are_replayed_and_others_run(lanes, start, monkeypatch):
    alone, run = start(), start()
    replays = []

    class Graph:
        def replay(self):
            replays.append(1)
            run.step(128)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: contextlib.nullcontext())
    lane = lanes.Lane(run, torch.device("cpu"))
    lane.capture()
    assert lane.without_graph is None and same(run, start())
    lanes.train_in_turns([lane], lambda: None, lambda _: None)
    advance(alone, 3)
    assert same(run, alone) and len(replays) == 3


def test_the_first_error_is_the_reason(lanes):
    try:
        try:
            raise ValueError("a copy to the host")
        finally:
            raise RuntimeError("the capture has failed")
    except RuntimeError as error:
        assert str(lanes._first(error)) == "a copy to the host"
