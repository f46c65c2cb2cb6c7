"""The CUDA graphs that one network keeps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class RecordedGraph(NamedTuple):
    """A graph, the input that it reads and the maps that it writes."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    maps: tuple[Tensor, ...] | Tensor


class Graphs:
    """The graphs of one network, by the kind of input. Copies and pickles start without graphs.

    Args:
        sizes: number of different inputs for which a graph is kept.
    """

    def __init__(self, sizes: int) -> None:
        self.sizes = sizes
        self.recorded: dict[tuple, RecordedGraph] = {}
        self.modules: list[nn.Module] = []
        """What the recorded network runs."""

    def __reduce__(self) -> tuple:
        return Graphs, (self.sizes,)

    def forget(self) -> None:
        """Discard every graph."""
        self.recorded.clear()
        self.modules.clear()
