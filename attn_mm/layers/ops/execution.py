"""Whether the running code is recorded into a graph, which may outlive this input's sizes and this device.

And whether a graph that was recorded before may stand for the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")

_watchers = 0


def is_traced() -> bool:
    """Whether the call is recorded: by torch.compile, torch.export, an ONNX exporter or torch.jit.trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()


def is_traced_by_dynamo() -> bool:
    """Whether what records is Dynamo: torch.compile, and torch.export where it is strict."""
    # torch.compiler.is_exporting() doesn't tell: under torch.compile it is true as well (torch 2.11).
    return torch.compiler.is_dynamo_compiling()


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: torch.compile calls ``function`` and does not look into it.

    ``torch.compiler.disable`` itself imports Dynamo, which takes longer than to import all of torch.
    Here that waits for something that compiles.
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


@contextmanager
def no_replays() -> Iterator[None]:
    """Within this context networks run themselves, because somebody looks on or has changed how they run."""
    global _watchers
    _watchers += 1
    try:
        yield
    finally:
        _watchers -= 1


def replays_allowed() -> bool:
    """Whether a network may replay a graph of itself; true unless inside :func:`no_replays`."""
    return not _watchers


_enabled = True


def shortcuts_enabled() -> bool:
    """Whether layers may take their exact shortcuts; true unless inside :func:`as_written`."""
    return _enabled


@contextmanager
def as_written() -> Iterator[None]:
    """Within this context every layer computes its formula term by term. Not for use across threads."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_watched(module: nn.Module) -> bool:
    """Whether ``module`` itself, not what is in it, has hooks or a forward over its class's."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)
