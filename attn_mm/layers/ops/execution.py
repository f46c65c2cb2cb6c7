"""How the layers run now: every switch that a call does not get as an argument.

* The flow of a recursion that runs, for the multi-flow norms inside it: :func:`flow`, of each thread its own.
* Shortcuts off: :func:`as_written`, for the whole process.
* Replays off: :func:`no_replays`, for the whole process.

The other functions ask torch whether a call is recorded into a graph, which may outlive this input's sizes
and this device, and ask modules whether somebody looks at what they compute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


class _Process:
    """What holds for all threads."""

    def __init__(self) -> None:
        self.shortcuts = True
        self.watchers = 0


class _Thread:
    """What each thread has its own of; torch.compile guards on this object, but not on a thread-local."""

    def __init__(self) -> None:
        self.flow: int | None = None


_process = _Process()
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
    """Let every multi-flow norm in the block use the statistics of flow ``index`` (from 0)."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        yield
    finally:
        thread.flow = outer


def run_in_flow(index: int | None, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)`` in a :func:`flow` block, in a form that torch 2.4 compiles without a graph break."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        return function(x)
    finally:
        thread.flow = outer


def shortcuts_enabled() -> bool:
    """Whether layers may use their exact shortcuts; true unless inside :func:`as_written`."""
    return _process.shortcuts


@contextmanager
def as_written() -> Iterator[None]:
    """In this context every layer computes its formula term by term. Don't use it across threads."""
    before, _process.shortcuts = _process.shortcuts, False
    try:
        yield
    finally:
        _process.shortcuts = before


def replays_allowed() -> bool:
    """Whether a network may replay a graph of itself; true unless inside :func:`no_replays`."""
    return not _process.watchers


@contextmanager
def no_replays() -> Iterator[None]:
    """In this context networks run their code, because somebody looks on or has changed how they run."""
    _process.watchers += 1
    try:
        yield
    finally:
        _process.watchers -= 1


def is_traced() -> bool:
    """Whether the call is recorded: by torch.compile, torch.export, an ONNX exporter or torch.jit.trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()


def is_traced_by_dynamo() -> bool:
    """Whether Dynamo records the call: torch.compile, and torch.export where it is strict."""
    # torch.compiler.is_exporting() doesn't tell: under torch.compile it is true as well (torch 2.11).
    return torch.compiler.is_dynamo_compiling()


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: torch.compile calls ``function`` and does not look into it.

    ``torch.compiler.disable`` imports Dynamo, which takes longer than the rest of torch. This decorator
    waits with that until something compiles.
    """

    disabled: Callable[P, R] | None = None

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal disabled
        if not is_traced_by_dynamo():
            return function(*args, **kwargs)
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return call


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_watched(module: nn.Module) -> bool:
    """Whether ``module`` itself, not what is in it, has hooks or a forward over its class's."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)


def shows_inner_maps(net: nn.Module) -> bool:
    """Whether a forward hook inside ``net`` gets the maps there, and may keep them."""
    return any(module._forward_hooks for module in net.modules() if module is not net)
