"""Processes that end together when one fails or the benchmark is stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from threading import Lock


class Processes:
    """Runs commands, each called from a thread of its own, until :meth:`end`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._started: list[subprocess.Popen] = []
        self._ended = False

    def run(self, command: Sequence[str], **options) -> int:
        """Run a command to its end and return its status; after :meth:`end`, don't start it.

        Args:
            command: the program and its arguments.
            options: see :class:`subprocess.Popen`.
        """
        with self._lock:
            if self._ended:
                return -signal.SIGTERM
            process = subprocess.Popen(command, **options)
            self._started.append(process)
        return process.wait()

    def end(self) -> None:
        """Send SIGTERM to all processes that are running, and start no other."""
        with self._lock:
            self._ended = True
            for process in self._started:
                process.terminate()
