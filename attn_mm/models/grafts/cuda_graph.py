"""The graft CUDAGraph: inference of a backbone by replaying CUDA graphs."""

from __future__ import annotations

from typing import Any

from torch import nn

from attn_mm.graft.cuda_graphs import CUDAGraphMixin
from attn_mm.graft.grafted import record_of
from attn_mm.graft.graph_cache import Graphs
from attn_mm.graft.options import check_whole
from attn_mm.graft.swap import swap_class
from attn_mm.models.grafts.turns import Turn, graft


@graft("CUDAGraph", Turn.NETWORK)
def cuda_graph(backbone: Any, sizes: int = 4) -> list[nn.Module]:
    """Make ``backbone``, in place, replay CUDA graphs of itself when it runs without gradients on a GPU.

    Use it for batches so small that the GPU waits for the CPU. The network records a graph for each
    kind of input (size, batch, type, layout); each graph keeps its maps in memory. Training, gradients,
    forward hooks and other devices use no graphs.

    Args:
        backbone: any built backbone whose forward reads no values back from the GPU.
        sizes: number of kinds of input for which to record a graph; others run without one.

    Returns:
        The new modules: none.

    Raises:
        ValueError: ``sizes`` is not a positive whole number.
    """
    check_whole("sizes", sizes, 1)
    record_of(backbone).graphs = Graphs(sizes)
    swap_class(backbone, CUDAGraphMixin)
    return []
