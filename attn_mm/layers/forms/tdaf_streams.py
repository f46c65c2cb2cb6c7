"""Run the flows of a stage in parallel, each on its own CUDA stream.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), 'On Time Overhead': the flows of a stage don't depend on each
other; only the attentions after it do. With few samples one flow alone doesn't fill a device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from attn_mm.layers.ops.execution import is_traced, run_in_flow

Stage = Callable[[Tensor], Tensor]


def run_flows(stage: Stage, maps: list[Tensor], first: int, streams: bool) -> None:
    """Apply ``stage`` to the flows' maps, in place in the list.

    Args:
        stage: the stage, ``(N, C, *size)`` -> ``(N, C', *size')``.
        maps: the flows' maps; those from ``first`` on are replaced by the stage's outputs.
        first: the first flow, counted from 0, that runs the stage.
        streams: whether each flow gets its own CUDA stream; ignored on other devices and while
            a compiler or exporter captures a graph.
    """
    if streams and maps[-1].is_cuda and not is_traced():
        _side_by_side(stage, maps, first)
        return
    for n in range(first, len(maps)):
        maps[n] = run_in_flow(n, stage, maps[n])


@cache
def _stream(device: torch.device, flow: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _side_by_side(stage: Stage, maps: list[Tensor], first: int) -> None:
    device = maps[-1].device
    here = torch.cuda.current_stream(device)
    if torch.is_autocast_enabled("cuda") and torch.is_autocast_cache_enabled():
        # It casts the weights for all flows: another stream could read a cast before it is written.
        maps[first] = run_in_flow(first, stage, maps[first])
        first += 1
    flows = range(first, len(maps))
    for n in flows:
        stream = _stream(device, n)
        stream.wait_stream(here)
        # The allocator must not reuse the map's memory before that stream has finished.
        maps[n].record_stream(stream)
        with torch.cuda.stream(stream):
            maps[n] = run_in_flow(n, stage, maps[n])
    for n in flows:
        here.wait_stream(_stream(device, n))
        maps[n].record_stream(here)
