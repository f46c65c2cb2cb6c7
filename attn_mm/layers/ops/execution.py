"""Switches that control how the layers run, without passing arguments through every call.

* :func:`flow` sets the running flow of a recursion for the multi-flow norms inside it, per thread.
* :func:`as_written` turns shortcuts off, for the whole process.
* :func:`no_replays` turns replays off, for the whole process.

The other functions tell whether torch is recording the call into a graph, which may later run with other
sizes or on another device, and whether hooks observe what modules compute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx import _symbolic_trace
from torch.nn.modules.module import _has_any_global_hook

P = ParamSpec("P")
R = TypeVar("R")


class _Process:
    """State shared by all threads."""

    def __init__(self) -> None:
        self.shortcuts = True
        self.watchers = 0


class _Thread:
    """State of one thread; torch.compile guards on this object, but not on a thread-local."""

    def __init__(self) -> None:
        self.flow: int | None = None


_process = _Process()
_local = threading.local()


def _thread() -> _Thread:
    if not hasattr(_local, "thread"):
        _local.thread = _Thread()
    return _local.thread


# torch 2.4 can compile reading a thread-local but not writing one, so create the main thread's here.
_thread()


def current_flow() -> int | None:
    """The index, from 0, of the running flow; None outside any :func:`flow` block."""
    return _thread().flow


@contextmanager
def flow(index: int | None) -> Iterator[None]:
    """In this context every multi-flow norm uses the statistics of flow ``index`` (from 0)."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        yield
    finally:
        thread.flow = outer


def run_in_flow(index: int | None, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call ``function(x)`` in a :func:`flow` block; torch 2.4 compiles this form without a graph break."""
    thread = _thread()
    outer = thread.flow
    thread.flow = index
    try:
        return function(x)
    finally:
        thread.flow = outer


def shortcuts_enabled() -> bool:
    """Whether layers may use their exact shortcuts; False only inside :func:`as_written`."""
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
    """Whether a network may replay a recorded graph of itself; False only inside :func:`no_replays`."""
    return not _process.watchers


@contextmanager
def no_replays() -> Iterator[None]:
    """In this context networks run their code instead of replaying graphs, so that they can be observed."""
    _process.watchers += 1
    try:
        yield
    finally:
        _process.watchers -= 1


def is_traced() -> bool:
    """Whether torch.compile, torch.export, an ONNX exporter, torch.jit.trace or torch.fx records the call."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    return _symbolic_trace._is_fx_tracing_flag


def is_traced_by_dynamo() -> bool:
    """Whether Dynamo is recording the call, for torch.compile or a strict torch.export."""
    # torch.compiler.is_exporting() doesn't distinguish: under torch.compile it is true as well (torch 2.11).
    return torch.compiler.is_dynamo_compiling()


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate ``function`` so that torch.compile calls it uncompiled.

    ``torch.compiler.disable`` imports Dynamo, which takes longer than the rest of torch. This decorator
    delays the import until something compiles.
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
    """Whether ``module`` itself, not its submodules, has hooks or a forward that overrides its class's."""
    return "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS)


def is_shown(module: nn.Module) -> bool:
    """Whether hooks of ``module`` itself, or of all modules, see what it computes and may keep it."""
    return is_watched(module) or _has_any_global_hook()


def may_overwrite() -> bool:
    """Whether a map may be overwritten after its last use in the forward pass.

    Autograd may need it later, and neither ``torch.func`` nor forward-mode AD supports ``out=``.
    """
    return not (torch.is_grad_enabled() or is_transformed())


def is_transformed() -> bool:
    """Whether the call runs in a transform of ``torch.func`` or in forward-mode AD.

    These need torch's own operations: they support neither ``out=`` nor backward passes written by hand. Ask
    :func:`is_traced` first: not every Dynamo can trace this call.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def shows_inner_maps(net: nn.Module) -> bool:
    """Whether a forward hook inside ``net`` sees its maps, and may keep them."""
    return any(module._forward_hooks for module in net.modules() if module is not net)
