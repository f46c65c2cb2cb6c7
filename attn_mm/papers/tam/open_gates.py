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
        name: name of the module in the network.
        module: the layer.
    """

    name: str
    module: nn.Module

    @property
    def kind(self) -> str:
        """The class name of the layer."""
        return type(self.module).__name__

    @contextmanager
    def watched(self, seen: list[Seen]) -> Iterator[None]:
        """Record the gate's values while the network runs; its first run appends an entry to ``seen``."""
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
        """Switch this attention off: a map passes unchanged, a convolution keeps its own weights."""
        with wrapped_calls({self.name: self.module}, lambda _, layer, run: partial(layer.opened, run)):
            yield


@dataclass(frozen=True)
class Seen:
    """The recorded values of a gate.

    Attributes:
        gate: the gate.
        size: size of the map that it multiplied on its first run.
        parts: the statistics of its values over channels, positions or weights.
    """

    gate: Gate
    size: tuple[int, ...]
    parts: dict[str, GateStatistics]


def find_gates(network: nn.Module) -> list[Gate]:
    """Find the gates of a network, in the order of its modules."""
    return [
        Gate(name, module)
        for name, module in network.named_modules()
        if hasattr(module, "recorded") and hasattr(module, "opened")
    ]


@contextmanager
def watch(gates: Sequence[Gate]) -> Iterator[list[Seen]]:
    """Record gates while their network runs::

        with watch(find_gates(network)) as seen:
            for images in test_set:
                network(images)

    ``seen`` lists the gates in the order of their first run, which is by depth. A gate that runs several
    times per image, as in TD with three steps, has one sample per run.
    """
    seen: list[Seen] = []
    with ExitStack() as stack:
        for gate in gates:
            stack.enter_context(gate.watched(seen))
        yield seen


def stages(sizes: Sequence[Sequence[int]]) -> list[int]:
    """The stage of each gate, from 1; gates on maps of the same size share a stage (section 4.1)."""
    areas = [torch.Size(size).numel() for size in sizes]
    order = sorted(set(areas), reverse=True)
    return [1 + order.index(area) for area in areas]
