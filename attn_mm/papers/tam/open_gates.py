"""Find a network's gates, record their values, and run the network with one of them opened.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 4.1, figures 3 and 4. The paper analyses TAM's
gates; this module works for every layer that implements ``opened``, see
:mod:`attn_mm.layers.recording`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from attn_mm.layers.gate_statistics import GateStatistics
from attn_mm.layers.recording import Call, wrapped_calls


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
        parts: dict[str, GateStatistics] = defaultdict(GateStatistics)

        def wrap(_: str, layer: Any, run: Call) -> Call:
            def collect(x, *others, **options):
                if not any(other.gate is self for other in seen):
                    seen.append(Seen(self, tuple(x.shape[2:]), parts))
                output, found = layer.recorded(run, x, *others, **options)
                for attention in found:
                    parts[attention.kind.over].update(attention.values)
                return output

            return collect

        with wrapped_calls({self.name: self.module}, wrap):
            yield

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Without this attention: a map flows through as it is, a convolution has its own weights."""
        with wrapped_calls({self.name: self.module}, lambda _, layer, run: partial(layer.opened, run)):
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


def find_gates(network: nn.Module) -> list[Gate]:
    """The gates of a network, in the order of its modules."""
    return [
        Gate(name, module)
        for name, module in network.named_modules()
        if hasattr(module, "recorded") and hasattr(module, "opened")
    ]


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
