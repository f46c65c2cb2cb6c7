"""Add a child to a network that runs its children in turn, such that the network doesn't run this one.

``Sequential`` runs all of its children, and timm's and torchvision's networks of features are a
``ModuleDict`` that runs all of its items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from attn_mm.graft.swap import swap_class


class _HidesChildren(nn.Module):
    prefix = ""
    hidden: tuple[str, ...]
    """Names of the children that iteration leaves out."""

    def _shown(self) -> dict[str, Any]:
        return {name: module for name, module in self._modules.items() if name not in self.hidden}

    def __len__(self) -> int:
        return len(self._shown())


class HidesFromSequenceMixin(_HidesChildren):
    """Mixin of a ``Sequential`` with children that it doesn't run."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self._shown().values())

    def __getitem__(self, index: int | slice) -> Any:
        items = list(self)[index]
        return nn.Sequential(*items) if isinstance(items, list) else items


class HidesFromDictMixin(_HidesChildren):
    """Mixin of a ``ModuleDict`` with children that are no items."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown())

    def keys(self) -> Any:
        return self._shown().keys()

    def items(self) -> Any:
        return self._shown().items()

    def values(self) -> Any:
        return self._shown().values()


_MIXINS: dict[type, type] = {nn.Sequential: HidesFromSequenceMixin, nn.ModuleDict: HidesFromDictMixin}


def add_child(owner: Any, name: str, child: nn.Module) -> None:
    """Make ``child`` the attribute ``name`` of ``owner``; a container gets no further item by it."""
    setattr(owner, name, child)
    mixin = next((mixin for kind, mixin in _MIXINS.items() if isinstance(owner, kind)), None)
    if mixin is None:
        return
    owner.hidden = (*getattr(owner, "hidden", ()), name)
    if not isinstance(owner, _HidesChildren):
        swap_class(owner, mixin)
