"""List every call inside a network's forward pass with its flow, output shapes and cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from attn_mm.describe.counting import flop_counter, multiply_adds, run_counted
from attn_mm.graft.grafted import RunsStagesInFlows
from attn_mm.layers.ops.execution import current_flow

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a module, or of a stage of a recursion.

    Attributes:
        flow: the flow that ran, from 1; None outside a recursion.
        shapes: shapes of the output tensors, without the batch dimension.
        conv, full: multiply-adds, see :mod:`attn_mm.describe.counting`.
    """

    flow: int | None
    shapes: tuple[Shape, ...]
    conv: int
    full: int


def trace_calls(model: nn.Module, *inputs, **kwargs) -> dict[str, list[Call]]:
    """Run ``model`` once, as :func:`attn_mm.describe.counting.measure` does, and list the calls.

    Args:
        model: the network, on any device, including the meta device.
        *inputs: arguments of its forward, a batch of one.
        **kwargs: keyword arguments of its forward.

    Returns:
        The calls in order, by the module's dotted name (``''`` is the network itself). The stages of a
        module with ``flow_stages()``, such as TDAF's, are named ``NAME.flow_stages.0`` and so on: a network's
        own modules may be called ``stages.0``.
    """
    counter = flop_counter()
    calls: dict[str, list[Call]] = defaultdict(list)
    started: list[tuple[int, int]] = []

    def total() -> tuple[int, int]:
        return multiply_adds(counter.flop_counts["Global"])

    def start(*_) -> None:
        started.append(total())

    def end(name: str, output: object) -> None:
        before, now = started.pop(), total()
        flow = current_flow()
        cost = [n - b for n, b in zip(now, before)]
        calls[name].append(Call(None if flow is None else flow + 1, tuple(_shapes(output)), *cost))

    def traced(name: str, stage: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            start()
            y = stage(x)
            end(name, y)
            return y

        return run

    with ExitStack() as undo:
        for name, module in model.named_modules():
            undo.callback(module.register_forward_pre_hook(start).remove)
            hook = module.register_forward_hook(lambda m, args, output, name=name: end(name, output))
            undo.callback(hook.remove)
            if isinstance(module, RunsStagesInFlows):
                stages = [
                    traced(f"{name}.flow_stages.{index}".lstrip("."), stage)
                    for index, stage in enumerate(module.flow_stages())
                ]
                undo.enter_context(_running(module, stages))
        run_counted(model, counter, *inputs, **kwargs)
    return dict(calls)


@contextmanager
def _running(module: nn.Module, stages: list[Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """In this context, let ``module`` run these ``stages``, by a subclass of its class."""
    cls = type(module)
    module.__class__ = type(cls.__name__, (cls,), {"flow_stages": lambda _: stages})
    try:
        yield
    finally:
        module.__class__ = cls


def _shapes(output: object) -> Iterator[Shape]:
    if isinstance(output, Tensor):
        yield tuple(output.shape[1:])
    elif isinstance(output, (list, tuple, dict)):
        for item in output.values() if isinstance(output, dict) else output:
            yield from _shapes(item)
