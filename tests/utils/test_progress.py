"""Bars on a terminal after some seconds, lines elsewhere."""

from __future__ import annotations

import io

import pytest

from attn_mm.utils import progress
from attn_mm.utils.progress import console_of, duration, progress_bar, working


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test advances; rich's tasks keep their own."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def a_terminal_of_its_own(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def run(stream, clock, seconds: float, steps: int = 10) -> str:
    with progress_bar(console_of(stream), auto_refresh=False) as bars:
        task = bars.add_task("images", total=steps)
        for _ in range(steps):
            clock.now += seconds / steps
            bars.update(task, advance=1, note="loss 1.5", refresh=True)
    return stream.getvalue()


def test_a_terminal_gets_a_bar_after_three_seconds(clock):
    assert "images" not in run(Terminal(), clock, 2, steps=2)
    shown = run(Terminal(), clock, 10)
    assert "images" in shown and "━" in shown and "10/10" in shown and "loss 1.5" in shown
    assert " 2/10" not in shown and " 3/10" in shown


def test_elsewhere_a_line_comes_every_half_minute(clock, monkeypatch):
    # What colours the output of a log file must not move its cursor.
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(io.StringIO(), clock, 29) == ""
    lines = run(io.StringIO(), clock, 100).splitlines()
    assert [line.split(", about")[0] for line in lines] == [
        "images 3/10, loss 1.5",
        "images 6/10, loss 1.5",
        "images 9/10, loss 1.5",
    ]


def test_work_of_unknown_length(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with working("counting"):
        pass
    assert "counting" not in terminal.getvalue()
    monkeypatch.setattr(progress, "SHOWN_AFTER", 0)
    with working("counting"):
        pass
    assert "counting" in terminal.getvalue()


def test_durations_have_the_unit_that_suits_them():
    assert [duration(seconds) for seconds in (0.4, 89, 91, 3600, 9000)] == [
        "0 s", "89 s", "2 min", "60 min", "2 h 30 min",
    ]  # fmt: skip
