"""The tree of channels and its gate in one pass over the input.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2. A program has all channels
of some positions and climbs the tree without leaving its registers: the map is read once and
written once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values that a program holds.
_TILE = 2**14


def fits(channels: int, group_size: int) -> bool:
    """Whether there is a kernel for that tree: shapes in Triton are powers of 2."""
    return all(n & (n - 1) == 0 for n in (channels, group_size)) and channels <= _TILE


def tree_gate(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], slopes: list[Tensor], group_size: int
) -> tuple[Tensor, Tensor]:
    """``x`` times the gate of a tree that :func:`fits`, and the gate.

    Args:
        x: ``(N, C, *size)``, channels first or last in memory.
        weights, biases: those of each level, ``(nodes, group)`` and ``(nodes,)`` and any ones behind.
        slopes: likewise, of each level but the last.
        group_size: children of a node; of the last node as many as are left.

    Returns:
        ``(N, C, *size)`` as ``x``, and ``(N, 1, *size)`` in float32 (of float64 inputs: in float64).
    """
    batch, channels, *size = x.shape
    last = {4: torch.channels_last, 5: torch.channels_last_3d}[x.dim()]
    if not x.is_contiguous(memory_format=last):
        x = x.contiguous()
    y = torch.empty_like(x)
    wide = torch.promote_types(x.dtype, torch.float32)
    gate = torch.empty((batch, 1, *size), dtype=wide, device=x.device)
    rows = gate.numel()
    if rows:
        tree = [
            torch.cat([p.reshape(-1) for p in kind]).to(wide) if kind else gate
            for kind in (weights, biases, slopes)
        ]
        flat, y_flat = x.flatten(2), y.view(batch, channels, -1)
        block = min(256, max(1, _TILE // channels))
        _tree_gate[(triton.cdiv(rows, block),)](
            flat,
            *tree,
            y_flat,
            gate,
            rows,
            flat.shape[2],
            *flat.stride(),
            *y_flat.stride(),
            CHANNELS=channels,
            GROUP=group_size,
            LOG_GROUP=group_size.bit_length() - 1,
            LEVELS=(channels.bit_length() - 1) // (group_size.bit_length() - 1),
            WIDE=tl.float64 if wide == torch.float64 else tl.float32,
            BLOCK=block,
            num_warps=8,
        )
    return y, gate


@triton.jit
def _combine(values, weights, biases, GROUP: tl.constexpr):
    """Each ``GROUP`` neighbours of ``(rows, nodes * GROUP)`` into one: ``(rows, nodes)``."""
    NODES: tl.constexpr = values.shape[1] // GROUP
    children = tl.reshape(values, (values.shape[0], NODES, GROUP))
    w = tl.load(weights + tl.arange(0, NODES)[:, None] * GROUP + tl.arange(0, GROUP)[None, :])
    b = tl.load(biases + tl.arange(0, NODES))
    return tl.sum(children * w[None, :, :], axis=2) + b[None, :]


@triton.jit
def _tree_gate(
    x,
    weights,
    biases,
    slopes,
    y,
    gate,
    rows,
    positions,
    x_n,
    x_c,
    x_p,
    y_n,
    y_c,
    y_p,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All channels of ``BLOCK`` positions; nodes have ``GROUP`` children, above ``LEVELS`` what is left."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    c = tl.arange(0, CHANNELS)
    n, p = (row // positions).to(tl.int64), row % positions
    valid = row < rows
    x_at = x + (n * x_n + p * x_p)[:, None] + (c * x_c)[None, :]
    full = tl.load(x_at, mask=valid[:, None], other=0.0).to(WIDE)
    values = full
    for level in tl.static_range(LEVELS):
        # What the levels below have: C + C/g + ... weights, and a g-th as many nodes.
        nodes_below = (CHANNELS - (CHANNELS >> (level * LOG_GROUP))) // (GROUP - 1)
        values = _combine(values, weights + nodes_below * GROUP, biases + nodes_below, GROUP)
        if (CHANNELS >> ((level + 1) * LOG_GROUP)) > 1:
            slope = tl.load(slopes + nodes_below + tl.arange(0, CHANNELS >> ((level + 1) * LOG_GROUP)))
            values = tl.where(values > 0, values, values * slope[None, :])
    REST: tl.constexpr = CHANNELS >> (LEVELS * LOG_GROUP)
    if REST > 1:
        NODES: tl.constexpr = (CHANNELS - REST) // (GROUP - 1)
        values = _combine(values, weights + NODES * GROUP, biases + NODES, REST)
    opened = tl.sigmoid(tl.reshape(values, (BLOCK,)))
    tl.store(gate + row, opened, mask=valid)
    y_at = y + (n * y_n + p * y_p)[:, None] + (c * y_c)[None, :]
    tl.store(y_at, (full * opened[:, None]).to(y.dtype.element_ty), mask=valid[:, None])
