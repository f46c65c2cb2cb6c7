"""Base class of layers at the end of a residual branch that can also add the block's shortcut."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class ClosesBranch(nn.Module):
    """Base class of layers that can compute ``shortcut + layer(x)`` in one pass."""

    @abstractmethod
    def can_add(self) -> bool:
        """Whether calling :meth:`add_to` now saves time."""

    @abstractmethod
    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """Compute ``shortcut + self(x)``; ``x`` may be overwritten.

        Args:
            shortcut: a tensor of the shape of ``x``.
            x: ``(N, C, *size)``.

        Returns:
            The sum, ``(N, C, *size)``.
        """
