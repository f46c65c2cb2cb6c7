"""Processes that end together."""

from __future__ import annotations

import signal
import sys

import pytest


@pytest.fixture
def processes(importable):
    from benchmarks.processes import Processes

    return Processes()


def test_gives_the_status(processes):
    assert processes.run(["sh", "-c", "exit $CODE"], env={"CODE": "3"}) == 3


def test_starts_none_after_the_end(processes, tmp_path):
    processes.end()
    assert processes.run(["touch", str(tmp_path / "started")]) == -signal.SIGTERM
    assert not list(tmp_path.iterdir())


def test_the_end_of_those_that_have_ended(processes):
    assert processes.run([sys.executable, "-Sc", ""]) == 0
    processes.end()
