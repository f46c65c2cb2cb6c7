"""Tree-structured attention (TAM): a tree combines neighbouring channels into one mask.

Tree-structured Attention Module for Image Classification, anonymous, submitted to ICLR 2020
(https://openreview.net/forum?id=r1xBoxBYDH), section 2, eqs. 1-2, figure 1.

The text and the authors' code use 1x1 convolutions, but the parameter counts of table 1
fit 3x3 ones (ResNet-50: 24.01M, where 1x1 gives 23.77M). 1x1 is the default;
``kernel_size=3`` gives the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import Tensor, nn

from attn_mm.layers.closing import ClosesBranch, adds_products
from attn_mm.layers.forms.tam import sliced, tree_gate
from attn_mm.layers.gate_statistics import GateStatistics
from attn_mm.layers.ops.channels import one_width
from attn_mm.layers.ops.dims import conv_class
from attn_mm.layers.ops.execution import (
    is_traced,
    is_traced_by_dynamo,
    is_transformed,
    no_replays,
    not_compiled,
    shortcuts_enabled,
)
from attn_mm.layers.recording import Attention, AttentionKind


def tree_groups(channels: int, group_size: int) -> list[int]:
    """Number of channels that each level of the tree combines into one, from the input to the mask.

    It is ``group_size`` while that divides the channels, then all remaining channels
    (section 2). This makes int(log N / log g) levels if N is a power of g.
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


class TAM(ClosesBranch):
    """Multiply each position by a gate in (0, 1), the same for all channels.

    Put it at the end of a residual branch, before the addition. The slopes of the
    PReLUs start at 0; the paper applies weight decay to them too.

    Args:
        channels: channels of the input; ``in_channels`` is an alias.
        group_size: number of channels that one node of the tree combines.
        kernel_size: kernel size of all convolutions of the tree, odd; the paper's text
            uses 1, its parameter counts 3.
        dims: 2 for images, 3 for video.

    Raises:
        TypeError: both or neither of ``channels`` and ``in_channels`` are given.
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
        """Initialise the convolutions as He et al. do (section 3.2) and the slopes with 0."""
        for layer in self.tree:
            if isinstance(layer, nn.PReLU):
                layer.reset_parameters()
            else:
                nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
                nn.init.zeros_(layer.get_parameter("bias"))

    @contextmanager
    def gate_statistics(self) -> Iterator[GateStatistics]:
        """Collect the gate's mean and variance while the module runs (section 4.1)::

            with tam.gate_statistics() as statistics:
                for images in test_set:
                    model(images)
            statistics.mean, statistics.variance

        Run a model compiled with ``fullgraph=True`` uncompiled here.
        """
        statistics = GateStatistics()
        self._statistics.append(statistics)
        try:
            with no_replays():
                yield statistics
        finally:
            self._statistics.remove(statistics)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``(N, C, *size)`` by the gate; the shape stays."""
        y, gate = self._attend(x)
        if self._statistics:
            self._collect(gate)
        return y

    def can_add(self) -> bool:
        """See :meth:`attn_mm.layers.closing.ClosesBranch.can_add`."""
        return adds_products(self, TAM) and self._has_shortcut() and not is_transformed()

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """See :meth:`attn_mm.layers.closing.ClosesBranch.add_to`."""
        if shortcut.dtype != x.dtype:
            return shortcut + self(x)
        y, gate = tree_gate(x, self._tree_parameters(), shortcut=shortcut)
        if self._statistics:
            self._collect(gate)
        return y

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        return run(x), [Attention(GATE, self._attend(x)[1])]

    def opened(self, run, x: Tensor) -> Tensor:
        """See :mod:`attn_mm.layers.recording`."""
        return x

    def _attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the gate ``(N, 1, *size)``."""
        if not self._has_shortcut() or (is_traced() and not is_traced_by_dynamo()):
            # Other runtimes are faster with convolutions than with slices, too.
            gate = self.tree(x).sigmoid()
            return x * gate, gate
        if is_traced_by_dynamo() or is_transformed():
            # A compiler fuses the levels and decides what to recompute.
            return sliced(x, self._tree_parameters())
        return tree_gate(x, self._tree_parameters())

    def _has_shortcut(self) -> bool:
        return self.kernel_size == 1 and shortcuts_enabled()

    # Appending to a list inside a compiled graph would recompile it for every batch.
    @not_compiled
    def _collect(self, gate: Tensor) -> None:
        for statistics in self._statistics:
            statistics.update(gate)

    def _tree_parameters(self) -> list[Tensor]:
        """Weight, bias and PReLU slopes of each level, from the input upwards."""
        return [p for layer in self.tree for p in layer.parameters()]
