"""Tree-structured attention: one mask, from neighbouring channels combined again and again.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2, figure 1.

The text and the authors' code have 1x1 convolutions; the parameter counts of table 1
are those of 3x3 ones (ResNet-50: 24.01M, where 1x1 gives 23.77M). The first is the
default, ``kernel_size=3`` the second.

1x1 convolutions of few channels are slow as grouped convolutions. Here a level adds up
strided slices of the channels, a piece of the map at a time, and the backward pass
computes the tree anew from the input: the same sums without a tree in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attn_mm.layers.channels import one_width
from attn_mm.layers.dims import conv_class
from attn_mm.layers.gate_statistics import GateStatistics
from attn_mm.layers.precision import no_autocast, wide_type
from attn_mm.layers.recording import Attention, AttentionKind
from attn_mm.layers.shortcuts import shortcuts_enabled
from attn_mm.layers.tracing import is_traced, is_traced_by_dynamo

# Elements of one piece: what a CPU's caches hold; elsewhere only the memory counts.
_PIECE = {"cpu": 2**20}
_LARGE_PIECE = 2**26


def tree_groups(channels: int, group_size: int) -> list[int]:
    """How many channels each level of the tree combines into one, from the input to the mask.

    ``group_size`` as long as the channels are divisible by it, then all that are
    left (section 2). That makes int(log N / log g) levels where N is a power of g.
    """
    groups = []
    while channels % group_size == 0:
        groups.append(group_size)
        channels //= group_size
    if channels > 1:
        groups.append(channels)
    return groups


GATE = AttentionKind(
    "TAM gate",
    "Tree-structured Attention Module, ICLR 2020 submission, eqs. 1-2",
    "What every channel of the residual branch is multiplied by at this position.",
)


class TAM(nn.Module):
    """Every position times a gate in (0, 1), the same for all channels.

    It sits at the end of a residual branch, before the addition. The slopes of the
    PReLUs start at 0, and the paper's weight decay includes them.

    Args:
        channels: channels of the input; ``in_channels`` is another name for it.
        group_size: channels that one node of the tree combines.
        kernel_size: of all convolutions of the tree, odd; see above.
        dims: 2 for images, 3 for video.

    Raises:
        TypeError: the width was given twice or not at all.
        ValueError: ``channels`` or ``group_size`` is below 2, ``kernel_size`` is even,
            or ``dims`` is not 2 or 3.
    """

    def __init__(
        self,
        channels: int | None = None,
        group_size: int = 2,
        kernel_size: int = 1,
        dims: Literal[2, 3] = 2,
        *,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        channels = one_width(channels, in_channels)
        conv = conv_class(dims)
        if channels < 2:
            raise ValueError(f"channels must be at least 2, got {channels!r}")
        if group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {group_size!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size!r}")
        layers: list[nn.Module] = []
        for group in tree_groups(channels, group_size):
            nodes = channels // group
            layers.append(conv(channels, nodes, kernel_size, padding=kernel_size // 2, groups=nodes))
            if nodes > 1:
                layers.append(nn.PReLU(nodes, init=0.0))
            channels = nodes
        self.tree = nn.Sequential(*layers)
        self.kernel_size = kernel_size
        self._statistics: list[GateStatistics] = []
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initialization of He et al. (section 3.2), and slopes of 0."""
        for layer in self.tree:
            if isinstance(layer, nn.PReLU):
                layer.reset_parameters()
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    @contextmanager
    def gate_statistics(self) -> Iterator[GateStatistics]:
        """Collect the gate's mean and variance while the module runs (section 4.1)::

            with tam.gate_statistics() as statistics:
                for images in test_set:
                    model(images)
            statistics.mean, statistics.variance

        A model compiled with ``fullgraph=True`` has to be run uncompiled here.
        """
        statistics = GateStatistics()
        self._statistics.append(statistics)
        try:
            yield statistics
        finally:
            self._statistics.remove(statistics)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *size)`` -> the same shape."""
        y, gate = self._attend(x)
        if self._statistics:
            self._collect(gate)
        return y

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        return run(x), [Attention(GATE, self._attend(x)[1])]

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the gate ``(N, 1, *size)``."""
        if self.kernel_size > 1 or not shortcuts_enabled() or (is_traced() and not is_traced_by_dynamo()):
            # Other runtimes, too, do better with convolutions than with slices.
            gate = self.tree(x).sigmoid()
            return x * gate, gate
        if is_traced_by_dynamo():
            # The compiler fuses the levels and decides itself what to compute twice.
            with no_autocast(x):
                dtype = wide_type(x)
                gate = _climb(x.to(dtype), _levels(self._tree_parameters(), dtype)).sigmoid()
                return (x * gate).to(x.dtype), gate
        return _TreeGate.apply(x, *self._tree_parameters())

    # Appending to a list inside a compiled graph would compile it anew for every batch.
    @torch.compiler.disable
    def _collect(self, gate: Tensor) -> None:
        for statistics in self._statistics:
            statistics.update(gate)

    def _tree_parameters(self) -> list[Tensor]:
        """Weight and bias of a level, the slopes after it, and so on upwards."""
        return [p for layer in self.tree for p in layer.parameters()]


def _levels(parameters, dtype):
    """Per level: the weights of each child, the bias, the slopes (None at the top)."""
    levels = []
    for weight, bias, slope in zip(parameters[0::3], parameters[1::3], [*parameters[2::3], None]):
        children = weight.to(dtype).unbind(1)
        bias = bias.to(dtype).view_as(children[0])
        levels.append((children, bias, slope if slope is None else slope.to(dtype)))
    return levels


def _climb(x: Tensor, levels, trail: list | None = None) -> Tensor:
    """The top of the tree over ``x``; ``trail`` takes each level's input and sum."""
    for children, bias, slope in levels:
        group = len(children)
        total = x[:, 0::group] * children[0]
        for i in range(1, group):
            total.addcmul_(x[:, i::group], children[i])
        total.add_(bias)
        if trail is not None:
            trail.append((x, total))
        x = total if slope is None else F.prelu(total, slope)
    return x


def _pieces(x: Tensor) -> Iterator[tuple[slice, ...]]:
    """Indices that cut ``x`` into pieces: some samples each, or some rows where one is too large."""
    size = _PIECE.get(x.device.type, _LARGE_PIECE)
    sample = max(1, x.shape[1:].numel())
    if sample <= size:
        step = size // sample
        for n in range(0, x.shape[0], step):
            yield (slice(n, n + step),)
        return
    step = max(1, size // (sample // x.shape[2]))
    for n in range(x.shape[0]):
        for row in range(0, x.shape[2], step):
            yield slice(n, n + 1), slice(None), slice(row, row + step)


class _TreeGate(torch.autograd.Function):
    """``x`` times its gate, and the gate; keeps these two for the backward pass and nothing else.

    Autocast would round the PReLUs. The pieces are small enough for full precision.
    """

    @staticmethod
    def forward(ctx, x, *parameters):
        dtype = wide_type(x)
        levels = _levels(parameters, dtype)
        y = torch.empty_like(x)
        gate = x.new_empty(x.shape[0], 1, *x.shape[2:], dtype=dtype)
        with no_autocast(x):
            for piece in _pieces(x):
                part = x[piece].to(dtype)
                torch.sigmoid(_climb(part, levels), out=gate[piece])
                torch.mul(part, gate[piece], out=y[piece])
        ctx.save_for_backward(x, gate, *parameters)
        ctx.mark_non_differentiable(gate)
        ctx.set_materialize_grads(False)
        return y, gate

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _):
        x, gate, *parameters = ctx.saved_tensors
        dtype = gate.dtype
        levels = _levels(parameters, dtype)
        grad_x = torch.empty_like(x)
        grads = [torch.zeros_like(p, dtype=dtype) for p in parameters]
        with no_autocast(x):
            for piece in _pieces(x):
                grad_x[piece] = _backward_piece(
                    x[piece].to(dtype), gate[piece], grad_y[piece].to(dtype), levels, grads
                )
        return grad_x, *(grad.to(p.dtype) for grad, p in zip(grads, parameters))


def _backward_piece(x: Tensor, gate: Tensor, grad_y: Tensor, levels, grads: list[Tensor]) -> Tensor:
    """The gradient of ``x``; those of the parameters are added to ``grads``."""
    trail: list[tuple[Tensor, Tensor]] = []
    _climb(x, levels, trail)
    but_channels = [d for d in range(x.dim()) if d != 1]
    grad = (grad_y * x).sum(1, keepdim=True) * (gate * (1 - gate))
    for level in reversed(range(len(levels))):
        (children, _, slope), (below, total) = levels[level], trail[level]
        if slope is not None:
            grads[3 * level + 2] += (grad * total.clamp(max=0)).sum(but_channels)
            grad = torch.where(total > 0, grad, grad * slope.view_as(children[0]))
        grads[3 * level + 1] += grad.sum(but_channels)
        group = len(children)
        grad_below = torch.empty_like(below) if level else grad_y * gate
        for i, child in enumerate(children):
            grads[3 * level][:, i] += (grad * below[:, i::group]).sum(but_channels).view_as(child)
            if level:
                torch.mul(grad, child, out=grad_below[:, i::group])
            else:
                grad_below[:, i::group].addcmul_(grad, child)
        grad = grad_below
    return grad
