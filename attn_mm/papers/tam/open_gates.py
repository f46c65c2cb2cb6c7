"""The gates of a network: what they let through, and the network with one of them opened.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 4.1, figures 3 and 4. The paper looks at TAM's
gates; here are those of every attention that multiplies by values in (0, 1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_mm.layers import CBAM, ECA, SE, TAM, TopDownAttention
from attn_mm.layers.aw_attention import AWAttention
from attn_mm.layers.gate_statistics import GateStatistics
from attn_mm.layers.ops.execution import no_replays

Values = dict[str, Tensor]
"""The values of a gate by its part, ``(N, ...)`` each: over channels, positions or weights."""

_Modulate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Gate:
    """One gate of a network.

    Attributes:
        name: its module's, in the network.
        module: the layer.
    """

    name: str
    module: nn.Module

    @property
    def kind(self) -> str:
        """The layer's name."""
        return type(self.module).__name__

    @contextmanager
    def watched(self, seen: list[Seen]) -> Iterator[None]:
        """Put what the gate does, while the network runs, behind what is in ``seen`` when it runs first."""
        layer = self.module
        parts: defaultdict[str, GateStatistics] = defaultdict(GateStatistics)

        def run(x: Tensor) -> None:
            if not any(other.gate is self for other in seen):
                seen.append(Seen(self, tuple(x.shape[2:]), parts))

        def collect(x: Tensor, *others: Tensor) -> None:
            run(x)
            for part, values in _values(layer, x, *others).items():
                parts[part].update(values)

        def before(modulate: _Modulate) -> _Modulate:
            def collect_and_modulate(bottom: Tensor, top: Tensor) -> Tensor:
                collect(bottom, top)
                return modulate(bottom, top)

            return collect_and_modulate

        with ExitStack() as stack:
            if isinstance(layer, TAM):
                # It has its gate at hand, which here would be computed a second time.
                parts["positions"] = stack.enter_context(layer.gate_statistics())
                stack.enter_context(layer.register_forward_pre_hook(lambda _, inputs: run(*inputs)))
            elif isinstance(layer, TopDownAttention):
                stack.enter_context(_modulating(layer, before(layer.modulate)))
            else:
                stack.enter_context(layer.register_forward_pre_hook(lambda _, inputs: collect(*inputs)))
            yield

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Without this attention: a map flows through as it is, a convolution has its own weights."""
        layer = self.module
        opening: AbstractContextManager
        if isinstance(layer, TopDownAttention):
            opening = _modulating(layer, lambda bottom, _: bottom)
        elif isinstance(layer, AWAttention):
            # Eq. 4 of the AW paper convolves with K + A * K.
            opening = layer.register_forward_hook(lambda _, __, values: torch.zeros_like(values))
        else:
            opening = layer.register_forward_hook(lambda _, inputs, __: inputs[0])
        with opening:
            yield


@dataclass(frozen=True)
class Seen:
    """What a gate did while it was watched.

    Attributes:
        gate: which.
        size: of the map that it stands on, when it ran first.
        parts: the statistics of its values over channels, positions or weights.
    """

    gate: Gate
    size: tuple[int, ...]
    parts: dict[str, GateStatistics]


GATES = (SE, ECA, CBAM, TAM, TopDownAttention, AWAttention)
"""The layers that are gates; FCA is an SE."""


def find_gates(network: nn.Module) -> list[Gate]:
    """The gates of a network, in the order of its modules."""
    return [Gate(name, module) for name, module in network.named_modules() if isinstance(module, GATES)]


@contextmanager
def watch(gates: Sequence[Gate]) -> Iterator[list[Seen]]:
    """Collect what gates do while their network runs::

        with watch(find_gates(network)) as seen:
            for images in test_set:
                network(images)

    ``seen`` gets the gates that run, in the order in which they do: by depth. One that runs several times
    for an image, as in TD of three steps, has a sample for each time.
    """
    seen: list[Seen] = []
    with ExitStack() as stack:
        for gate in gates:
            stack.enter_context(gate.watched(seen))
        yield seen


def stages(sizes: Sequence[Sequence[int]]) -> list[int]:
    """The stage of each gate, from 1: gates on maps of one size are of one stage (section 4.1)."""
    areas = [torch.Size(size).numel() for size in sizes]
    order = sorted(set(areas), reverse=True)
    return [1 + order.index(area) for area in areas]


def _values(layer: Any, x: Tensor, *others: Tensor) -> Values:
    """The values by which ``layer`` multiplies its input ``x``, or, in an AW-convolution, weights."""
    if isinstance(layer, AWAttention):
        return {"weights": layer.forward(x)}
    if isinstance(layer, TopDownAttention):
        return dict(zip(("channels", "positions"), layer.searchlight(x, *others)))
    if isinstance(layer, CBAM):
        values = {"channels": layer.channel_gate(x)}
        if layer.spatial is not None:
            values["positions"] = layer.spatial_gate(x * values["channels"])
        return values
    return {"channels": layer.gate(x)}


@contextmanager
def _modulating(attention: Any, modulate: _Modulate) -> Iterator[None]:
    """Put ``modulate`` in the place of the method, which a block calls without the layer's hooks."""
    attention.modulate = modulate
    try:
        with no_replays():
            yield
    finally:
        del attention.modulate
