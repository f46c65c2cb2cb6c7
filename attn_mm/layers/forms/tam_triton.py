"""Triton kernels of TAM's tree and gate: one pass over the input, forward and backward.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2. A program loads all channels
of some positions and computes the tree in its registers. The forward pass reads and writes the map
once; the backward pass keeps a tile's sums of each level in a small memory buffer per program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

# Number of values and warps per program: the fastest of several on an H200.
_TILE = 2**13
_WARPS = 4
# Programs of the backward pass per multiprocessor; each sums the parameters' gradients over its tiles.
_PROGRAMS = 4


def fits(channels: int, group_size: int) -> bool:
    """Whether the kernels support that tree: shapes in Triton must be powers of 2."""
    return all(n & (n - 1) == 0 for n in (channels, group_size)) and channels <= _TILE


def tree_gate(x: Tensor, parameters: Sequence[Tensor], group_size: int) -> tuple[Tensor, Tensor]:
    """Multiply ``x`` by the gate of a tree that :func:`fits`.

    Args:
        x: ``(N, C, *size)``, channels first or last in memory.
        parameters: for each level, upwards, the weights ``(nodes, group)``, the biases ``(nodes,)`` and
            the slopes ``(nodes,)``, with any trailing dimensions of 1; the last level has no slopes.
        group_size: children of a node; the last node has the remaining ones.

    Returns:
        The product, ``(N, C, *size)`` in the type of ``x``, and the gate, ``(N, 1, *size)`` in float32
        (float64 for float64 inputs).
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
            *(*_flat(x), *_flat(y), gate),
            _flatten_dense_tensors(parameters).to(wide),
            *(rows, gate[0].numel()),
            **_constants(channels, group_size, wide),
            ROWS=block,
            num_warps=_WARPS,
        )
    return y, gate


def tree_gate_gradients(
    grad_y: Tensor, x: Tensor, gate: Tensor, parameters: Sequence[Tensor], group_size: int
) -> tuple[Tensor, Sequence[Tensor]]:
    """Compute the gradients of ``x`` and of the parameters of :func:`tree_gate`.

    Args:
        grad_y: gradient of the first result, ``(N, C, *size)``.
        gate: the second result.
        x, parameters, group_size: those of :func:`tree_gate`.

    Returns:
        The gradient of ``x`` in its type and layout, and the parameters' in the type of ``gate``.
    """
    channels, wide = x.shape[1], gate.dtype
    x, grad_y = _dense(x), _dense(grad_y)
    grad_x = torch.empty_like(x)
    rows = gate.numel()
    block = _rows(channels, _TILE)
    programs = min(triton.cdiv(rows, block), _PROGRAMS * _multiprocessors(x))
    flat = _flatten_dense_tensors(parameters).to(wide)
    sums = flat.new_zeros((programs, len(flat)))
    # A tile's sums of each level; small enough to stay in the caches.
    trail = flat.new_empty((programs, block * channels))
    if rows:
        _backward[(programs,)](
            *(*_flat(x), *_flat(grad_y), *_flat(grad_x), gate, flat),
            *(trail, sums, len(flat), rows, gate[0].numel()),
            **_constants(channels, group_size, wide),
            ROWS=block,
            num_warps=_WARPS,
        )
    return grad_x, _unflatten_dense_tensors(sums.sum(0), parameters)


def _dense(x: Tensor) -> Tensor:
    last = {4: torch.channels_last, 5: torch.channels_last_3d}[x.dim()]
    return x if x.is_contiguous(memory_format=last) else x.contiguous()


def _flat(x: Tensor) -> tuple:
    """``x`` as ``(N, C, positions)``, and its strides."""
    flat = x.view(*x.shape[:2], -1)
    return flat, *flat.stride()


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


# Parameters are stored level by level, upwards; each level has its weights, biases and slopes in this order.


@triton.jit
def _combine(values, tree, NODES: tl.constexpr, GROUP: tl.constexpr):
    """Combine each ``GROUP`` neighbours of ``(rows, NODES * GROUP)`` into one: ``(rows, NODES)``."""
    children = tl.reshape(values, (values.shape[0], NODES, GROUP))
    w = tl.load(tree + tl.arange(0, NODES)[:, None] * GROUP + tl.arange(0, GROUP)[None, :])
    bias = tl.load(tree + NODES * GROUP + tl.arange(0, NODES))
    return tl.sum(children * w[None, :, :], axis=2) + bias[None, :]


@triton.jit
def _rectify(total, slopes, NODES: tl.constexpr):
    """Apply the PReLUs of a level, if it has more than one node."""
    if NODES > 1:
        slope = tl.load(slopes + tl.arange(0, NODES))
        total = tl.where(total > 0, total, total * slope[None, :])
    return total


@triton.jit
def _level(ROWS: tl.constexpr, NODES: tl.constexpr):
    """The offsets of a level's sums within those of a tile."""
    return tl.arange(0, ROWS)[:, None] * NODES + tl.arange(0, NODES)[None, :]


@triton.jit
def _climb(
    values,
    tree,
    trail,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Compute ``LEVELS`` levels from all channels; with ``KEEP``, store each level's sums in ``trail``."""
    ROWS: tl.constexpr = values.shape[0]
    for level in tl.static_range(LEVELS):
        # The levels below have C/g + C/g^2 + ... nodes.
        below = (CHANNELS - (CHANNELS >> (level * LOG_GROUP))) // (GROUP - 1)
        tree_here = tree + below * (GROUP + 2)
        values = _combine(values, tree_here, CHANNELS >> ((level + 1) * LOG_GROUP), GROUP)
        if KEEP:
            tl.store(trail + below * ROWS + _level(ROWS, CHANNELS >> ((level + 1) * LOG_GROUP)), values)
        slopes = tree_here + (CHANNELS >> ((level + 1) * LOG_GROUP)) * (GROUP + 1)
        values = _rectify(values, slopes, CHANNELS >> ((level + 1) * LOG_GROUP))
    return values


@triton.jit
def _add(sums, values, N: tl.constexpr):
    """Add ``values`` to a program's own sums; no other program adds to them, so the order is fixed."""
    # Unlike a load and a store, an atomic add doesn't wait for the old sums to arrive.
    tl.atomic_add(sums + tl.arange(0, N), values, sem="relaxed")


@triton.jit
def _descend(grad, values, tree, sums, NODES: tl.constexpr, GROUP: tl.constexpr):
    """Backward of :func:`_combine`: returns its values' gradient and adds its parameters' to ``sums``."""
    children = tl.reshape(values, (values.shape[0], NODES, GROUP))
    of_weights = tl.sum(grad[:, :, None] * children, axis=0)
    _add(sums, tl.reshape(of_weights, (NODES * GROUP,)), NODES * GROUP)
    _add(sums + NODES * GROUP, tl.sum(grad, axis=0), NODES)
    w = tl.load(tree + tl.arange(0, NODES)[:, None] * GROUP + tl.arange(0, GROUP)[None, :])
    return tl.reshape(grad[:, :, None] * w[None, :, :], (grad.shape[0], NODES * GROUP))


@triton.jit
def _down(
    grad,
    full,
    tree,
    trail,
    sums,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVEL: tl.constexpr,
):
    """Backward of level ``LEVEL``, PReLU included: from the gradient of its output to that of its input."""
    ROWS: tl.constexpr = full.shape[0]
    NODES: tl.constexpr = CHANNELS >> ((LEVEL + 1) * LOG_GROUP)
    BELOW: tl.constexpr = (CHANNELS - (CHANNELS >> (LEVEL * LOG_GROUP))) // (GROUP - 1)
    OWN: tl.constexpr = BELOW * (GROUP + 2)
    if NODES > 1:
        total = tl.load(trail + BELOW * ROWS + _level(ROWS, NODES))
        of_slopes = tl.sum(grad * tl.minimum(total, 0.0), axis=0)
        _add(sums + OWN + NODES * (GROUP + 1), of_slopes, NODES)
        slope = tl.load(tree + OWN + NODES * (GROUP + 1) + tl.arange(0, NODES))
        grad = tl.where(total > 0, grad, grad * slope[None, :])
    if LEVEL == 0:
        values = full
    else:
        NARROW: tl.constexpr = NODES * GROUP
        UNDER: tl.constexpr = BELOW - NARROW
        values = tl.load(trail + UNDER * ROWS + _level(ROWS, NARROW))
        values = _rectify(values, tree + UNDER * (GROUP + 2) + NARROW * (GROUP + 1), NARROW)
    return _descend(grad, values, tree + OWN, sums + OWN, NODES, GROUP)


@triton.jit(do_not_specialize=["rows"])
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
    tree,
    rows,
    positions,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    LOG_GROUP: tl.constexpr,
    LEVELS: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Process all channels of ``ROWS`` positions; above ``LEVELS`` levels a last node combines the rest."""
    REST: tl.constexpr = CHANNELS >> (LEVELS * LOG_GROUP)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, CHANNELS)
    n, p = (row // positions).to(tl.int64), row % positions
    valid = (row < rows)[:, None]
    full = tl.load(x + (n * x_n + p * x_p)[:, None] + (c * x_c)[None, :], mask=valid, other=0.0).to(WIDE)
    values = _climb(full, tree, tree, CHANNELS, GROUP, LOG_GROUP, LEVELS, False)
    if REST > 1:
        BELOW: tl.constexpr = (CHANNELS - REST) // (GROUP - 1) * (GROUP + 2)
        values = _combine(values, tree + BELOW, 1, REST)
    opened = tl.sigmoid(tl.reshape(values, (ROWS,)))
    tl.store(gate + row, opened, mask=row < rows)
    y_at = y + (n * y_n + p * y_p)[:, None] + (c * y_c)[None, :]
    tl.store(y_at, (full * opened[:, None]).to(y.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["rows"])
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
    tree,
    trail,
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
    """Process tiles of ``ROWS`` positions in turn, and sum the parameters' gradients over all of them."""
    REST: tl.constexpr = CHANNELS >> (LEVELS * LOG_GROUP)
    sums += tl.program_id(0) * sums_size
    trail += tl.program_id(0) * (ROWS * CHANNELS)
    c = tl.arange(0, CHANNELS)
    for tile in range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS)
        n, p = (row // positions).to(tl.int64), row % positions
        valid = (row < rows)[:, None]
        full = tl.load(x + (n * x_n + p * x_p)[:, None] + (c * x_c)[None, :], mask=valid, other=0.0)
        full = full.to(WIDE)
        grad_at = grad_y + (n * y_n + p * y_p)[:, None] + (c * y_c)[None, :]
        grad_out = tl.load(grad_at, mask=valid, other=0.0).to(WIDE)
        opened = tl.load(gate + row, mask=row < rows, other=0.0)
        grad = (tl.sum(grad_out * full, axis=1) * opened * (1 - opened))[:, None]
        values = _climb(full, tree, trail, CHANNELS, GROUP, LOG_GROUP, LEVELS, True)
        # The sums may be loaded by other threads than those that stored them.
        tl.debug_barrier()
        if REST > 1:
            BELOW: tl.constexpr = (CHANNELS - REST) // (GROUP - 1) * (GROUP + 2)
            grad = _descend(grad, values, tree + BELOW, sums + BELOW, 1, REST)
        for above in tl.static_range(LEVELS):
            grad = _down(grad, full, tree, trail, sums, CHANNELS, GROUP, LOG_GROUP, LEVELS - 1 - above)
        tl.debug_barrier()
        grad += grad_out * opened[:, None]
        grad_x_at = grad_x + (n * g_n + p * g_p)[:, None] + (c * g_c)[None, :]
        tl.store(grad_x_at, grad.to(grad_x.dtype.element_ty), mask=valid)
