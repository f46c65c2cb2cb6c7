"""Record a network's inference once as a CUDA graph, and replay it.

At small batches a GPU waits for the host, which launches hundreds of kernels one by one
(https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/). A graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from attn_mm.graft.grafted import Grafted
from attn_mm.graft.graph_cache import Graphs, RecordedGraph
from attn_mm.layers.ops.execution import is_traced, replays_allowed, shortcuts_enabled
from attn_mm.layers.ops.precision import without_cached_casts


class CUDAGraphMixin(nn.Module):
    """Mixin: inference on a CUDA device replays graphs. Anything else runs as before.

    A replay reads the parameters from their old addresses, so they may change in place. Moving or
    replacing them (``to``, ``half``, loading with ``assign=True``) discards the graphs.
    """

    attn_mm: Grafted

    def forward(self, x: Tensor):
        if not _can_replay(self, x):
            return super().forward(x)
        graphs = self._graphs()
        # Without itself: its own hooks run around a replay, and a network in its own list is never freed.
        graphs.modules = graphs.modules or [module for module in self.modules() if module is not self]
        if _are_hooked(graphs.modules):
            return super().forward(x)
        autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
        key = x.shape, x.stride(), x.dtype, x.device, autocast, torch.is_inference_mode_enabled()
        if key not in graphs.recorded:
            if len(graphs.recorded) == graphs.sizes:
                return super().forward(x)
            graphs.recorded[key] = _record(super().forward, x)
        recorded = graphs.recorded[key]
        recorded.x.copy_(x)
        recorded.graph.replay()
        # The next replay writes over the graph's own maps.
        maps = recorded.maps
        return maps.clone() if isinstance(maps, Tensor) else tuple(y.clone() for y in maps)

    def _graphs(self) -> Graphs:
        assert self.attn_mm.graphs is not None
        return self.attn_mm.graphs

    def train(self, mode: bool = True):
        self._graphs().forget()
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._graphs().forget()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._graphs().forget()
        super()._load_from_state_dict(*args, **kwargs)


def _can_replay(net: nn.Module, x: Tensor) -> bool:
    runs_alone = not (net.training or torch.is_grad_enabled() or is_traced())
    if not (x.is_cuda and runs_alone and replays_allowed() and shortcuts_enabled()):
        return False
    # Somebody else's graph has to record the kernels, not this one's replay.
    with torch.cuda.device(x.device):
        return not torch.cuda.is_current_stream_capturing()


def _are_hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether somebody is told what the modules do, who would learn nothing from a replay."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _record(forward: Callable, x: Tensor) -> RecordedGraph:
    x = x.clone()
    stream = torch.cuda.Stream(x.device)
    stream.wait_stream(torch.cuda.current_stream(x.device))
    graph = torch.cuda.CUDAGraph()
    # A capture takes place on the current device.
    with torch.cuda.device(x.device), without_cached_casts():
        # Libraries choose their kernels, and kernels are compiled, before the recording.
        with torch.cuda.stream(stream):
            for _ in range(2):
                forward(x)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        with torch.cuda.graph(graph):
            maps = forward(x)
    return RecordedGraph(graph, x, maps)
