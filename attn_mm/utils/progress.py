"""What the commands show while they work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SHOWN_AFTER = 3.0
"""Seconds that work takes before its bar appears."""
LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


def console_of(stream: Any) -> Console:
    """A console that moves the cursor only if ``stream`` is a terminal, whatever the environment says."""
    return Console(file=stream, force_terminal=stream.isatty(), highlight=False)


def progress_bar(console: Console | None = None, **options: Any) -> Bars:
    """A progress bar with the count and the estimated time left; a context manager.

    Args:
        console: where it is shown. None: stderr.
        options: those of :class:`rich.progress.Progress`.
    """
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Note(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console or console_of(sys.stderr),
        **options,
    )


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that work goes on whose length is unknown, and for how long it has."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Bars(*columns, console=console_of(sys.stderr), transient=True) as bars:
        bars.add_task(description, total=None)
        yield


class _Note(ProgressColumn):
    """A task's field ``note``, such as its loss."""

    def render(self, task: Task) -> Text:
        return Text(task.fields.get("note", ""))


class Bars(Progress):
    """Bars that appear after some seconds; where the console is no terminal, lines take their place."""

    def __init__(self, *columns: str | ProgressColumn, console: Console, **options: Any) -> None:
        self._began = self._told = time.monotonic()
        self._lines = not console.is_interactive
        options.setdefault("transient", self._lines)
        super().__init__(*columns, console=console, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        if time.monotonic() - self._began >= SHOWN_AFTER:
            yield from super().get_renderables()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def stop(self) -> None:
        if self._lines:
            # Where there is no terminal, rich's own stop prints an empty line.
            self.live.stop()
        else:
            super().stop()

    def _tell(self, task_id: TaskID) -> None:
        if not self._lines or time.monotonic() - self._told < LINE_EVERY:
            return
        self._told = time.monotonic()
        task = next(task for task in self.tasks if task.id == task_id)
        self.console.print(line(task), markup=False, soft_wrap=True)


def line(task: Task) -> str:
    """How far a task is, in words."""
    done = f"{task.description} {task.completed:.0f}"
    if task.total:
        done += f"/{task.total:.0f}"
    left = task.time_remaining
    parts = [done, task.fields.get("note"), left and f"about {duration(left)} left"]
    return ", ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """A time in the unit that suits it, such as "4 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
