"""Handle SIGTERM in the process that asks for it, and in none of its children.

Slurm signals every process of a job: if those that help this one ended at once, it could not save. And a
child that inherits the handler survives its parent's ``terminate()``, which then waits for it forever, as
``multiprocessing.Pool`` does at the end of mmdet's VOC evaluation.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_handlers = 0
"""How many contexts of :func:`handling_sigterm` this process is in."""


@contextmanager
def handling_sigterm(handler: Callable) -> Iterator[None]:
    """In this context ``handler`` handles SIGTERM; outside the main thread, which can't, nothing changes.

    A child that is forked in this context ignores SIGTERM, unless its parent sends it.
    """
    global _handlers
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handler)
    _handlers += 1
    try:
        yield
    finally:
        _handlers -= 1
        signal.signal(signal.SIGTERM, previous)


def leave_sigterm_to_parent() -> None:
    """Let this child process ignore SIGTERM, unless its parent sends it."""
    # Not every system can say who sent a signal.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


_forking = threading.local()


def _before_fork() -> None:
    # What arrives before the child waits for signals must not reach the handler that it inherits.
    if _handlers:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _in_parent() -> None:
    mask = vars(_forking).pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    if vars(_forking).pop("mask", None) is not None:
        leave_sigterm_to_parent()


if hasattr(signal, "sigwaitinfo"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
