"""Which flow of a recursion is running: said around a call, read by the multi-flow norms inside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor


class _Thread:
    """The state that torch.compile guards on: of a thread-local it would miss the changes."""

    def __init__(self) -> None:
        self.flow: int | None = None


_local = threading.local()


def _thread() -> _Thread:
    if not hasattr(_local, "thread"):
        _local.thread = _Thread()
    return _local.thread


# torch 2.4 compiles reads of a thread-local only: the main thread's is made here.
_thread()


def current_flow() -> int | None:
    """The flow that runs, from 0; None outside any :func:`flow` block."""
    return _thread().flow


@contextmanager
def flow(index: int | None) -> Iterator[None]:
    """Let every multi-flow norm run in the block use the statistics of flow ``index`` (from 0)."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        yield
    finally:
        thread.flow = outer


def run_in_flow(index: int | None, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)`` in a :func:`flow` block, in a form that torch 2.4 can compile whole."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        return function(x)
    finally:
        thread.flow = outer
