"""Layers at the end of a residual branch that can also add the block's shortcut.

The sum of a block is a pass over the map of its own; a layer that multiplies by a gate can compute it in the
same pass as its product.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from attn_mm.layers.forms import gates
from attn_mm.layers.ops.execution import is_traced, may_overwrite, shortcuts_enabled
from attn_mm.layers.recording import Attention, AttentionKind


class ClosesBranch(nn.Module):
    """Base class of layers that can compute ``shortcut + layer(x)`` in one pass."""

    @abstractmethod
    def can_add(self) -> bool:
        """Whether calling :meth:`add_to` now saves time."""

    @abstractmethod
    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """Compute ``shortcut + self(x)``; ``x`` may be overwritten if :func:`may_overwrite` says so.

        Args:
            shortcut: a tensor of the shape of ``x``.
            x: ``(N, C, *size)``.

        Returns:
            The sum, ``(N, C, *size)``.
        """


class ChannelGate(ClosesBranch):
    """Base class of layers that multiply each channel by a gate computed from one number for each."""

    recorded_kind: AttentionKind
    dims: int
    """Dimensions of space."""

    def squeeze(self, x: Tensor) -> Tensor:
        """Compute a number for each channel of ``(N, C, *size)``: ``(N, C, 1, 1)``, with another 1 in 3D."""
        return x.mean(tuple(range(-self.dims, 0)), keepdim=True)

    @abstractmethod
    def gate_of(self, pooled: Tensor) -> Tensor:
        """Compute the gate from the channels' numbers; the shape stays."""

    def gate(self, x: Tensor) -> Tensor:
        """Compute the gate for ``x`` ``(N, C, *size)``: ``(N, C, 1, 1)``, with another 1 in 3D."""
        return self.gate_of(self.squeeze(x))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``(N, C, *size)`` by the gate; the shape stays."""
        if self._averages() and gates.fits(x, self.dims):
            return gates.times_channel_gate(x, self.gate_of, with_max=False)
        return x * self.gate(x)

    def can_add(self) -> bool:
        """See :meth:`ClosesBranch.can_add`."""
        return adds_products(self, ChannelGate)

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """See :meth:`ClosesBranch.add_to`."""
        if self._averages() and gates.fits(x, self.dims, shortcut):
            return gates.times_channel_gate(x, self.gate_of, with_max=False, shortcut=shortcut)
        return add_product(shortcut, x, self.gate(x))

    def _averages(self) -> bool:
        """Whether the gate depends on the channels' averages alone."""
        return type(self).squeeze is ChannelGate.squeeze and type(self).gate is ChannelGate.gate

    def recorded(self, run, x: Tensor) -> tuple[Tensor, list[Attention]]:
        """See :mod:`attn_mm.layers.recording`."""
        return run(x), [Attention(self.recorded_kind, self.gate(x))]

    def opened(self, run, x: Tensor) -> Tensor:
        """See :mod:`attn_mm.layers.recording`."""
        return x


def adds_products(layer: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether ``layer`` should add the shortcut as well.

    A compiler fuses the two passes by itself, and a subclass of ``cls`` may have a forward of its own.
    """
    return type(layer).forward is cls.forward and shortcuts_enabled() and not is_traced()


def add_product(shortcut: Tensor, x: Tensor, gate: Tensor) -> Tensor:
    """Compute ``shortcut + x * gate`` in one pass; overwrites ``x`` if it may."""
    if not x.dtype == gate.dtype == shortcut.dtype:
        return shortcut + x * gate
    return torch.addcmul(shortcut, x, gate, out=x if may_overwrite() else None)
