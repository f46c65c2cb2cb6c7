"""The flows of a stage at the same time, on a CUDA stream each.

Pang et al., TDAF: Top-Down Attention Framework for Vision Tasks, AAAI 2021
(https://arxiv.org/abs/2012.07248), 'On Time Overhead': the flows of a stage don't wait for
each other, only the attentions behind it do. With few samples one flow alone doesn't fill a device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from attn_mm.layers.ops.execution import is_traced, run_in_flow
from attn_mm.layers.ops.precision import without_cached_casts

Stage = Callable[[Tensor], Tensor]


def run_flows(stage: Stage, maps: list[Tensor], first: int, streams: bool) -> None:
    """Replace each flow's map, from flow ``first`` (from 0) on, by ``stage`` of it.

    Args:
        streams: whether each flow gets a stream of its own, where there are streams: on a CUDA
            device, and not while a graph is captured by a compiler or an exporter.
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
    flows = range(first, len(maps))
    # Another stream would read the casts half written.
    with without_cached_casts():
        for n in flows:
            stream = _stream(device, n)
            stream.wait_stream(here)
            # The allocator must not give away its memory before that stream is done with it.
            maps[n].record_stream(stream)
            with torch.cuda.stream(stream):
                maps[n] = run_in_flow(n, stage, maps[n])
    for n in flows:
        here.wait_stream(_stream(device, n))
        maps[n].record_stream(here)
