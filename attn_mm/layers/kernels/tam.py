"""The tree of channels and its gate in one pass over the input, forward and backward.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2. A program has all channels
of some positions and climbs the tree without leaving its registers: forward, the map is read
once and written once; backward, it climbs again to each level on the way down.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values that a program holds.
_TILE = 2**14
_TILE_BACKWARD = 2**13
# Programs of the backward pass on one multiprocessor; each adds up the parameters' gradients of its tiles.
_PROGRAMS = 4


def fits(channels: int, group_size: int) -> bool:
    """Whether there is a kernel for that tree: shapes in Triton are powers of 2."""
    return all(n & (n - 1) == 0 for n in (channels, group_size)) and channels <= _TILE_BACKWARD


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
    x = _dense(x)
    y = torch.empty_like(x)
    wide = torch.promote_types(x.dtype, torch.float32)
    gate = torch.empty((batch, 1, *size), dtype=wide, device=x.device)
    rows = gate.numel()
    if rows:
        block = _rows(channels, _TILE)
        _forward[(triton.cdiv(rows, block),)](
            *_flat(x),
            *_flat(y),
            gate,
            *(_joined(kind, wide, gate) for kind in (weights, biases, slopes)),
            rows,
            gate[0].numel(),
            **_constants(channels, group_size, wide),
            ROWS=block,
            num_warps=8,
        )
    return y, gate


def tree_gate_gradients(
    grad_y: Tensor,
    x: Tensor,
    gate: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    slopes: list[Tensor],
    group_size: int,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """Gradients of ``x``, the weights, the biases and the slopes of :func:`tree_gate`.

    Args:
        grad_y: that of the first result, ``(N, C, *size)``.
        gate: the second result.
        x, weights, biases, slopes, group_size: those of :func:`tree_gate`.

    Returns:
        The first of the type and layout of ``x``, the others of the type of ``gate``.
    """
    channels, wide = x.shape[1], gate.dtype
    x, grad_y = _dense(x), _dense(grad_y)
    grad_x = torch.empty_like(x)
    kinds = weights, biases, slopes
    sizes = [sum(p.numel() for p in kind) for kind in kinds]
    rows = gate.numel()
    block = _rows(channels, _TILE_BACKWARD)
    tiles = triton.cdiv(rows, block)
    programs = min(tiles, _PROGRAMS * _multiprocessors(x))
    sums = torch.zeros((programs, sum(sizes)), dtype=wide, device=x.device)
    if rows:
        _backward[(programs,)](
            *_flat(x),
            *_flat(grad_y),
            *_flat(grad_x),
            gate,
            *(_joined(kind, wide, gate) for kind in kinds),
            sums,
            sums.shape[1],
            rows,
            gate[0].numel(),
            **_constants(channels, group_size, wide),
            ROWS=block,
            num_warps=8,
        )
    parts = sums.sum(0).split(sizes)
    grads = [
        [g.view(p.shape) for g, p in zip(part.split([p.numel() for p in kind]), kind)]
        for part, kind in zip(parts, kinds)
    ]
    return grad_x, *grads


def _dense(x: Tensor) -> Tensor:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}[x.dim()]
    return x if x.is_contiguous(memory_format=last) else x.contiguous()


def _flat(x: Tensor) -> tuple:
    """``x`` as ``(N, C, positions)``, and the strides of that."""
    batch, channels = x.shape[:2]
    flat = x.view(batch, channels, -1)
    return flat, *flat.stride()


def _joined(kind: list[Tensor], dtype: torch.dtype, none: Tensor) -> Tensor:
    return torch.cat([p.reshape(-1) for p in kind]).to(dtype) if kind else none


def _rows(channels: int, tile: int) -> int:
    return min(256, max(1, tile // channels))


def _multiprocessors(x: Tensor) -> int:
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 1


def _constants(channels: int, group_size: int, wide: torch.dtype) -> dict:
    per_level = group_size.bit_length() - 1
    return dict(
        CHANNELS=channels,
        GROUP=group_size,
        LOG_GROUP=per_level,
        LEVELS=(channels.bit_length() - 1) // per_level,
        WIDE=tl.float64 if wide == torch.float64 else tl.float32,
    )


@triton.jit
def _children_weights(weights, NODES: tl.constexpr, GROUP: tl.constexpr):
    return tl.load(weights + tl.arange(0, NODES)[:, None] * GROUP + tl.arange(0, GROUP)[None, :])


@triton.jit
def _combine(values, weights, biases, GROUP: tl.constexpr):
    """Each ``GROUP`` neighbours of ``(rows, nodes * GROUP)`` into one: ``(rows, nodes)``."""
    NODES: tl.constexpr = values.shape[1] // GROUP
    children = tl.reshape(values, (values.shape[0], NODES, GROUP))
    w = _children_weights(weights, NODES, GROUP)
    return tl.sum(children * w[None, :, :], axis=2) + tl.load(biases + tl.arange(0, NODES))[None, :]


@triton.jit
def _climb(
    values,
    weights,
    biases,
    slopes,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
):
    """From all channels ``LEVELS`` levels up, the PReLUs included, where more than one node is left."""
    for level in tl.static_range(LEVELS):
        # What the levels below have: C + C/g + ... weights, and a g-th as many nodes.
        below = (CHANNELS - (CHANNELS >> (level * LOG_GROUP))) // (GROUP - 1)
        values = _combine(values, weights + below * GROUP, biases + below, GROUP)
        if (CHANNELS >> ((level + 1) * LOG_GROUP)) > 1:
            slope = tl.load(slopes + below + tl.arange(0, CHANNELS >> ((level + 1) * LOG_GROUP)))
            values = tl.where(values > 0, values, values * slope[None, :])
    return values


@triton.jit
def _add(sums, values, N: tl.constexpr):
    """A program's sums lie in memory of its own, where no other program adds."""
    at = sums + tl.arange(0, N)
    tl.store(at, tl.load(at) + values)


@triton.jit
def _descend(grad, values, weights, weight_sums, bias_sums, NODES: tl.constexpr, GROUP: tl.constexpr):
    """From the gradient of :func:`_combine` to that of its values; those of its parameters are added up."""
    children = tl.reshape(values, (values.shape[0], NODES, GROUP))
    of_weights = tl.sum(grad[:, :, None] * children, axis=0)
    _add(weight_sums, tl.reshape(of_weights, (NODES * GROUP,)), NODES * GROUP)
    _add(bias_sums, tl.sum(grad, axis=0), NODES)
    w = _children_weights(weights, NODES, GROUP)
    return tl.reshape(grad[:, :, None] * w[None, :, :], (grad.shape[0], NODES * GROUP))


@triton.jit
def _down(
    grad,
    full,
    weights,
    biases,
    slopes,
    weight_sums,
    bias_sums,
    slope_sums,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVEL: tl.constexpr,
):
    """From the gradient of what level ``LEVEL`` gives, its PReLU included, to that of what it takes."""
    NODES: tl.constexpr = CHANNELS >> ((LEVEL + 1) * LOG_GROUP)
    BELOW: tl.constexpr = (CHANNELS - (CHANNELS >> (LEVEL * LOG_GROUP))) // (GROUP - 1)
    values = _climb(full, weights, biases, slopes, CHANNELS, GROUP, LOG_GROUP, LEVEL)
    weights += BELOW * GROUP
    if NODES > 1:
        total = _combine(values, weights, biases + BELOW, GROUP)
        _add(slope_sums + BELOW, tl.sum(grad * tl.minimum(total, 0.0), axis=0), NODES)
        slope = tl.load(slopes + BELOW + tl.arange(0, NODES))
        grad = tl.where(total > 0, grad, grad * slope[None, :])
    return _descend(grad, values, weights, weight_sums + BELOW * GROUP, bias_sums + BELOW, NODES, GROUP)


@triton.jit
def _forward(
    x,
    x_n,
    x_c,
    x_p,
    y,
    y_n,
    y_c,
    y_p,
    gate,
    weights,
    biases,
    slopes,
    rows,
    positions,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """All channels of ``ROWS`` positions; nodes have ``GROUP`` children, above ``LEVELS`` what is left."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CHANNELS)
    n, p = (row // positions).to(tl.int64), row % positions
    valid = (row < rows)[:, None]
    full = tl.load(x + (n * x_n + p * x_p)[:, None] + (c * x_c)[None, :], mask=valid, other=0.0).to(WIDE)
    values = _climb(full, weights, biases, slopes, CHANNELS, GROUP, LOG_GROUP, LEVELS)
    REST: tl.constexpr = CHANNELS >> (LEVELS * LOG_GROUP)
    if REST > 1:
        BELOW: tl.constexpr = (CHANNELS - REST) // (GROUP - 1)
        values = _combine(values, weights + BELOW * GROUP, biases + BELOW, REST)
    opened = tl.sigmoid(tl.reshape(values, (ROWS,)))
    tl.store(gate + row, opened, mask=row < rows)
    y_at = y + (n * y_n + p * y_p)[:, None] + (c * y_c)[None, :]
    tl.store(y_at, (full * opened[:, None]).to(y.dtype.element_ty), mask=valid)


@triton.jit
def _backward(
    x,
    x_n,
    x_c,
    x_p,
    grad_y,
    y_n,
    y_c,
    y_p,
    grad_x,
    g_n,
    g_c,
    g_p,
    gate,
    weights,
    biases,
    slopes,
    sums,
    sums_size,
    rows,
    positions,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Tiles of ``ROWS`` positions in turn, and their sums over all positions for the parameters."""
    REST: tl.constexpr = CHANNELS >> (LEVELS * LOG_GROUP)
    NODES: tl.constexpr = (CHANNELS - REST) // (GROUP - 1)
    EXTRA: tl.constexpr = 1 if REST > 1 else 0
    weight_sums = sums + tl.program_id(0) * sums_size
    bias_sums = weight_sums + NODES * GROUP + EXTRA * REST
    slope_sums = bias_sums + NODES + EXTRA
    c = tl.arange(0, CHANNELS)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS)
        n, p = (row // positions).to(tl.int64), row % positions
        valid = (row < rows)[:, None]
        full = tl.load(x + (n * x_n + p * x_p)[:, None] + (c * x_c)[None, :], mask=valid, other=0.0)
        full = full.to(WIDE)
        grad_out = tl.load(
            grad_y + (n * y_n + p * y_p)[:, None] + (c * y_c)[None, :], mask=valid, other=0.0
        ).to(WIDE)
        opened = tl.load(gate + row, mask=row < rows, other=0.0)
        grad = (tl.sum(grad_out * full, axis=1) * opened * (1 - opened))[:, None]
        if REST > 1:
            values = _climb(full, weights, biases, slopes, CHANNELS, GROUP, LOG_GROUP, LEVELS)
            grad = _descend(
                grad, values, weights + NODES * GROUP, weight_sums + NODES * GROUP, bias_sums + NODES, 1, REST
            )
        for above in tl.static_range(LEVELS):
            grad = _down(
                grad,
                full,
                weights,
                biases,
                slopes,
                weight_sums,
                bias_sums,
                slope_sums,
                CHANNELS,
                GROUP,
                LOG_GROUP,
                LEVELS - 1 - above,
            )
        grad_at = grad_x + (n * g_n + p * g_p)[:, None] + (c * g_c)[None, :]
        grad += grad_out * opened[:, None]
        tl.store(grad_at, grad.to(grad_x.dtype.element_ty), mask=valid)
