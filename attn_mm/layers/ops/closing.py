"""A layer at the end of a block's branch that can add the block's shortcut as well."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class ClosesBranch(nn.Module):
    """Base of layers that can compute ``shortcut + layer(x)`` in one pass."""

    @abstractmethod
    def can_add(self) -> bool:
        """Whether :meth:`add_to` saves anything now."""

    @abstractmethod
    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """``shortcut + self(x)``, which may overwrite ``x``.

        Args:
            shortcut: of the shape of ``x``.
            x: ``(N, C, *size)``.
        """
