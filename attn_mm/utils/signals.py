"""SIGTERM, with which Slurm and Docker end a job, gives it time to save."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import FrameType

from attn_mm.sigterm import handling_sigterm, leave_sigterm_to_parent


class StopRequest:
    """Whether this process has received SIGTERM; see :func:`stop_request`.

    Attributes:
        received: whether it has.
    """

    def __init__(self) -> None:
        self.received = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.received = True


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """In this context SIGTERM is only noted."""
    request = StopRequest()
    with handling_sigterm(request.note):
        yield request


def init_worker(worker: int, init: Callable[[int], None] | None = None) -> None:
    """Let a process that loads data ignore SIGTERM, unless its parent sends it, however it was started.

    Args:
        worker: number of the loading process, as torch's ``worker_init_fn`` gets it.
        init: the ``worker_init_fn`` to call first.
    """
    if init is not None:
        init(worker)
    leave_sigterm_to_parent()
