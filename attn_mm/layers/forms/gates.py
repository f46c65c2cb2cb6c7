"""Products with channel and spatial gates in training, in few passes over the map.

* Hu, Shen, Sun, Squeeze-and-Excitation Networks, CVPR 2018 (https://arxiv.org/abs/1709.01507), eqs. 2-4.
* Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018 (https://arxiv.org/abs/1807.06521),
  eqs. 1-3.

Of what has the map's size, only the input is kept for the backward pass. Autograd would there write a
gradient for the product and one for each average or maximum, and then add them up. Here a product passes the
gradient of its output on as it is and leaves its gate beside it (:class:`_Left`); the operation that the map
came from, whose turn comes after the gate's own layers, multiplies by the gate and adds the averages' part in
one pass. Maxima are found again instead of kept, by comparison; equal ones share the gradient.

Second derivatives, and those of many outputs at once, follow from the same formulas on the whole map.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function

from attn_mm.layers.ops.execution import is_traced, is_transformed, shortcuts_enabled
from attn_mm.layers.ops.pieces import samples
from attn_mm.layers.ops.precision import result_type, wide_type

Gate = Callable[[Tensor], Tensor]


def fits(x: Tensor, shortcut: Tensor | None = None) -> bool:
    """Whether the functions below may be used: there are gradients, and all types are that of ``x``."""
    if is_traced() or is_transformed() or not shortcuts_enabled():
        return False
    if not (torch.is_grad_enabled() and x.requires_grad and x.numel()):
        return False
    return result_type(x) == x.dtype and (shortcut is None or shortcut.dtype == x.dtype)


def times_channel_gate(x: Tensor, gate: Gate, with_max: bool, shortcut: Tensor | None = None) -> Tensor:
    """Compute ``x * gate(pooled x)``, plus any ``shortcut``.

    Args:
        x: ``(N, C, *size)``.
        gate: computes the gate ``(N, C, 1, 1)``, with another 1 in 3D, from the averages over all positions,
            which have the same shape; ``with_max``, from averages and maxima, ``(N, C, 1, 2)``.
        with_max: whether the gate depends on the maxima.
        shortcut: a tensor of the shape of ``x``.

    Returns:
        ``(N, C, *size)``.
    """
    left = _Left()
    pooled, passed = _Pool.apply(x, with_max, left)
    return _Times.apply(shortcut, passed, x, gate(pooled).to(x.dtype), left)


def times_both_gates(
    x: Tensor, gate: Gate, with_max: bool, spatial_gate: Gate, shortcut: Tensor | None = None
) -> Tensor:
    """Compute ``y * spatial_gate(pooled y)``, where ``y = x * gate(pooled x)``, plus any ``shortcut``.

    Args:
        x, gate, with_max, shortcut: as in :func:`times_channel_gate`.
        spatial_gate: computes the gate ``(N, 1, *size)`` from the largest channel and the average of all,
            ``(N, 2, *size)``.

    Returns:
        ``(N, C, *size)``.
    """
    left, left_behind = _Left(), _Left()
    pooled, passed = _Pool.apply(x, with_max, left)
    channels = gate(pooled).to(x.dtype)
    maps, passed = _PoolChannels.apply(passed, x, channels, left, left_behind)
    return _TimesBoth.apply(shortcut, passed, x, channels, spatial_gate(maps).to(x.dtype), left_behind)


class _Left:
    """What the backward pass of a product leaves for that of the operation before it."""

    gate: Tensor | None = None
    overwrite = False
    """Whether nobody else has the gradient that was passed on."""

    def put(self, gate: Tensor) -> None:
        """Leave ``gate``; a backward pass that asks for few gradients may never take it."""
        # With its graph it would keep that alive.
        self.gate = gate if torch.is_grad_enabled() else gate.detach()

    def take(self) -> Tensor | None:
        """The gate; once, for then no graph keeps itself alive."""
        gate, self.gate = self.gate, None
        return gate


class _Pool(Function):
    """The averages of all channels, and their maxima if wanted; and the map as it is."""

    @staticmethod
    def forward(ctx, x: Tensor, with_max: bool, left: _Left):
        ctx.left, ctx.positions = left, x.shape[2:].numel()
        positions = _positions(x)
        if not with_max:
            return x.mean(positions, keepdim=True), x.view_as(x)
        averages, maxima = (x.new_empty(*x.shape[:2], *[1] * len(positions)) for _ in range(2))
        for piece in samples(x):
            torch.mean(x[piece], positions, keepdim=True, out=averages[piece])
            torch.amax(x[piece], positions, keepdim=True, out=maxima[piece])
        pooled = torch.cat([averages, maxima], dim=-1)
        ctx.save_for_backward(x, pooled)
        return pooled, x.view_as(x)

    @staticmethod
    def backward(ctx, grad_pooled: Tensor, grad_y: Tensor):
        gate = ctx.left.take()
        average = grad_pooled.narrow(-1, 0, 1) / ctx.positions
        if gate is None:
            grad = average + grad_y
        else:
            overwrite = ctx.left.overwrite and not _is_whole(grad_y)
            grad = torch.addcmul(average, grad_y, gate, out=grad_y if overwrite else None)
        # Checkpointing lets them be read once.
        if saved := ctx.saved_tensors:
            x, pooled = saved
            grad = _through_maxima(grad, x, pooled[..., 1:], grad_pooled[..., 1:])
        return grad, None, None


class _Times(Function):
    """The map times its channels' gate, plus the shortcut; :class:`_Pool` completes the map's gradient."""

    @staticmethod
    def forward(ctx, shortcut: Tensor | None, passed: Tensor, x: Tensor, gate: Tensor, left: _Left):
        ctx.left = left
        ctx.save_for_backward(x, gate)
        return passed * gate if shortcut is None else torch.addcmul(shortcut, passed, gate)

    @staticmethod
    def backward(ctx, grad_y: Tensor):
        x, gate = ctx.saved_tensors
        ctx.left.put(gate)
        return _if_needed(ctx, grad_y), grad_y, None, _sum_of_products(grad_y, x), None


class _PoolChannels(Function):
    """The largest channel and the average of all, of the map times its gate; and the map as it is."""

    @staticmethod
    def forward(ctx, passed: Tensor, x: Tensor, gate: Tensor, left: _Left, left_behind: _Left):
        ctx.left, ctx.left_behind = left, left_behind
        maxima, averages = (x.new_empty(x.shape[0], 1, *x.shape[2:]) for _ in range(2))
        for piece in samples(x):
            y = x[piece] * gate[piece]
            torch.amax(y, 1, keepdim=True, out=maxima[piece])
            torch.mean(y, 1, keepdim=True, out=averages[piece])
        maps = torch.cat([maxima, averages], dim=1)
        ctx.save_for_backward(x, gate, maps)
        return maps, passed.view_as(passed)

    @staticmethod
    def backward(ctx, grad_maps: Tensor, grad_y: Tensor):
        x, gate, maps = ctx.saved_tensors
        positions = ctx.left_behind.take()
        if _is_whole(grad_maps, grad_y):
            grad = _through_channels(x, gate, maps, grad_maps, grad_y, positions)
        else:
            grad = torch.empty_like(x)
            for piece in samples(x):
                factor = None if positions is None else positions[piece]
                of = (x[piece], gate[piece], maps[piece], grad_maps[piece], grad_y[piece])
                _through_channels(*of, factor, out=grad[piece])
        ctx.left.put(gate)
        ctx.left.overwrite = True
        return grad, None, _sum_of_products(grad, x), None, None


class _TimesBoth(Function):
    """The map times both gates, plus the shortcut; :class:`_PoolChannels` completes the gradients.

    These include that of the channels' gate, which also multiplies here.
    """

    @staticmethod
    def forward(ctx, shortcut, passed, x, channels, positions, left_behind: _Left):
        ctx.left_behind = left_behind
        ctx.save_for_backward(x, channels, positions)
        y = torch.empty_like(x)
        for piece in samples(x):
            part = x[piece] * channels[piece]
            if shortcut is None:
                torch.mul(part, positions[piece], out=y[piece])
            else:
                torch.add(shortcut[piece], part.mul_(positions[piece]), out=y[piece])
        return y

    @staticmethod
    def backward(ctx, grad_y: Tensor):
        x, channels, positions = ctx.saved_tensors
        ctx.left_behind.put(positions)
        if _is_whole(grad_y):
            grad = (grad_y * x * channels).sum(1, keepdim=True)
        else:
            grad = torch.empty_like(positions)
            for piece in samples(x):
                product = (grad_y[piece] * x[piece]).mul_(channels[piece])
                torch.sum(product, 1, keepdim=True, out=grad[piece])
        return _if_needed(ctx, grad_y), grad_y, None, None, grad, None


def _is_whole(*gradients: Tensor) -> bool:
    """Whether torch's own operations must compute the backward pass, on the whole map at once.

    So it is for second derivatives, and for many gradients at once (``is_grads_batched``).
    """
    batched = torch._C._dispatch_key_parse("Batched")
    return torch.is_grad_enabled() or any(torch._C._dispatch_keys(g).has(batched) for g in gradients)


def _positions(x: Tensor) -> tuple[int, ...]:
    """The dimensions of space."""
    return tuple(range(2, x.dim()))


def _if_needed(ctx, grad_shortcut: Tensor) -> Tensor | None:
    return grad_shortcut if ctx.needs_input_grad[0] else None


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Sum ``a * b`` over all positions: ``(N, C, 1, 1)``, with another 1 in 3D."""
    positions = _positions(a)
    if _is_whole(a, b):
        return (a * b).sum(positions, keepdim=True)
    sums = a.new_empty(*a.shape[:2], *[1] * len(positions))
    for piece in samples(a):
        torch.sum(a[piece] * b[piece], positions, keepdim=True, out=sums[piece])
    return sums


def _equal(x: Tensor, maxima: Tensor) -> Tensor:
    """1 where ``x`` equals its maximum, else 0: in its own type, since boolean maps are much slower."""
    if torch.is_grad_enabled():
        return x.eq(maxima).to(x.dtype)
    # Equal numbers, and no others, differ by 0. Comparing with a broadcast tensor is much slower.
    return torch.sub(x, maxima).eq_(0)


def _shares(grad: Tensor, equal: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """The gradient of a maximum for each place that has it."""
    count = equal.sum(dims, keepdim=True, dtype=wide_type(equal))
    return (grad / count).to(grad.dtype)


def _through_maxima(grad: Tensor, x: Tensor, maxima: Tensor, grad_maxima: Tensor) -> Tensor:
    """Add to ``grad``, in place, what the maxima of the channels contribute to the gradient of ``x``."""
    if _is_whole(grad, grad_maxima):
        equal = _equal(x.detach(), maxima.detach())
        return grad + equal * _shares(grad_maxima, equal, _positions(x))
    for piece in samples(x):
        equal = _equal(x[piece], maxima[piece])
        grad[piece].addcmul_(equal, _shares(grad_maxima[piece], equal, _positions(x)))
    return grad


def _through_channels(
    x: Tensor,
    gate: Tensor,
    maps: Tensor,
    grad_maps: Tensor,
    grad_y: Tensor,
    positions: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of ``x * gate`` from those of its channels' maximum and average and of the product."""
    largest, average = grad_maps[:, :1], grad_maps[:, 1:] / x.shape[1]
    equal = _equal((x * gate).detach(), maps[:, :1].detach())
    share = _shares(largest, equal, 1)
    if out is None:
        product = grad_y if positions is None else grad_y * positions
        return product + average + equal * share
    # addcmul would take longer than two passes over a piece.
    if positions is None:
        torch.add(grad_y, average, out=out)
    else:
        torch.mul(grad_y, positions, out=out).add_(average)
    return out.add_(equal.mul_(share))
