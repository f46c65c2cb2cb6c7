"""Products with channel and spatial gates in training, in few passes over the map.

* Hu, Shen, Sun, Squeeze-and-Excitation Networks, CVPR 2018 (https://arxiv.org/abs/1709.01507), eqs. 2-4.
* Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018 (https://arxiv.org/abs/1807.06521),
  eqs. 1-3.

Of all tensors of the map's size, the backward pass needs the input alone. Autograd would there write a
gradient for the product and one for each average or maximum, and then add them up. Here a product passes the
gradient of its output on as it is and leaves its gate beside it (:class:`_Left`); the operation that the map
came from, whose turn comes after the gate's own layers, multiplies by the gate and adds the averages' part in
one pass. Maxima are found again instead of kept, by comparison; equal ones share the gradient.

Second derivatives follow from the same formulas, computed on the whole map at once.
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


def fits(x: Tensor, dims: int, shortcut: Tensor | None = None) -> bool:
    """Whether the functions below may be used for ``x``, a batch of maps of ``dims`` dimensions.

    They are for training, where all types are that of ``x``.
    """
    if is_traced() or is_transformed() or not shortcuts_enabled():
        return False
    if x.dim() != dims + 2 or not (torch.is_grad_enabled() and x.requires_grad and x.numel()):
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

    def pass_on(self, grad: Tensor, gate: Tensor) -> Tensor:
        """Leave ``gate``, and return the gradient that is still to be multiplied by it.

        A backward pass that asks for few gradients may never take the gate, which with its graph would keep
        that alive. So a gradient that has a graph itself is multiplied here.
        """
        if _is_whole(grad):
            self.gate = None
            return grad * gate
        self.gate = gate.detach()
        return grad

    def take(self) -> Tensor | None:
        """The gate; once, because the next backward pass may leave none."""
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
            overwrite = ctx.left.overwrite and not _is_whole(grad_pooled, grad_y)
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
        grad_passed = ctx.left.pass_on(grad_y, gate)
        return _if_needed(ctx, grad_y), grad_passed, None, _sum_of_products(grad_y, x), None


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
        spatial_gate = ctx.left_behind.take()
        if _is_whole(grad_maps, grad_y):
            product = grad_y if spatial_gate is None else grad_y * spatial_gate
            grad = _through_channels(x, gate, maps, grad_maps, product)
        else:
            grad = torch.empty_like(x)
            for piece in samples(x):
                factor = None if spatial_gate is None else spatial_gate[piece]
                of = (x[piece], gate[piece], maps[piece], grad_maps[piece], grad_y[piece])
                _through_channels(*of, factor, out=grad[piece])
        ctx.left.overwrite = True
        return ctx.left.pass_on(grad, gate), None, _sum_of_products(grad, x), None, None


class _TimesBoth(Function):
    """The map times both gates, plus the shortcut; :class:`_PoolChannels` completes the gradients.

    These include that of the channels' gate, which also multiplies here.
    """

    @staticmethod
    def forward(ctx, shortcut, passed, x, channel_gate, spatial_gate, left_behind: _Left):
        ctx.left_behind = left_behind
        ctx.save_for_backward(x, channel_gate, spatial_gate)
        y = torch.empty_like(x)
        for piece in samples(x):
            part = x[piece] * channel_gate[piece]
            if shortcut is None:
                torch.mul(part, spatial_gate[piece], out=y[piece])
            else:
                torch.add(shortcut[piece], part.mul_(spatial_gate[piece]), out=y[piece])
        return y

    @staticmethod
    def backward(ctx, grad_y: Tensor):
        x, channel_gate, spatial_gate = ctx.saved_tensors
        grad_passed = ctx.left_behind.pass_on(grad_y, spatial_gate)
        if _is_whole(grad_y):
            grad = (grad_y * x * channel_gate).sum(1, keepdim=True)
        else:
            grad = torch.empty_like(spatial_gate)
            for piece in samples(x):
                product = (grad_y[piece] * x[piece]).mul_(channel_gate[piece])
                torch.sum(product, 1, keepdim=True, out=grad[piece])
        return _if_needed(ctx, grad_y), grad_passed, None, None, grad, None


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
    # Equal numbers, and no others, differ by 0. Comparing with a broadcast tensor is much slower.
    return torch.sub(x, maxima).eq_(0)


def _shares(grad: Tensor, equal: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """The gradient of a maximum for each place that has it."""
    count = equal.sum(dims, keepdim=True, dtype=wide_type(equal))
    return (grad / count).to(grad.dtype)


def _through_maxima(grad: Tensor, x: Tensor, maxima: Tensor, grad_maxima: Tensor) -> Tensor:
    """Add what the channels' maxima contribute to the gradient of ``x``: in place unless that has a graph."""
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
    spatial_gate: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of ``x * gate`` from those of its channels' maximum and average and of the product.

    ``spatial_gate``, by which the product's is still to be multiplied, is for ``out`` only.
    """
    largest, average = grad_maps[:, :1], grad_maps[:, 1:] / x.shape[1]
    equal = _equal((x * gate).detach(), maps[:, :1].detach())
    share = _shares(largest, equal, 1)
    if out is None:
        return grad_y + average + equal * share
    # addcmul would take longer than two passes over a piece.
    if spatial_gate is None:
        torch.add(grad_y, average, out=out)
    else:
        torch.mul(grad_y, spatial_gate, out=out).add_(average)
    return out.add_(equal.mul_(share))
