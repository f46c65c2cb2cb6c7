"""Bring a network back to what it was before something was tried on it."""

from __future__ import annotations

from typing import Any

from torch import nn

from attn_mm.graft.grafted import Grafted
from attn_mm.graft.units import GraftedBlock


class Snapshot:
    """The classes and attributes of all modules of a network.

    Containers stay the same objects: handles of hooks, for one, refer to them.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        self._modules = [(module, type(module), dict(vars(module))) for module in net.modules()]
        values = [value for _, _, attributes in self._modules for value in attributes.values()]
        self._dicts = [(value, dict(value)) for value in values if isinstance(value, dict)]
        self._lists = [(value, list(value)) for value in values if isinstance(value, list)]
        self._sets = [(value, set(value)) for value in values if isinstance(value, set)]
        records: Any = (Grafted, GraftedBlock)
        self._records = [(value, dict(vars(value))) for value in values if isinstance(value, records)]

    def restore(self) -> None:
        """Give every module its class and attributes again, and every container its items."""
        for module, cls, attributes in self._modules:
            module.__class__ = cls
            vars(module).clear()
            vars(module).update(attributes)
        for record, fields in self._records:
            vars(record).update(fields)
        for mapping, items in self._dicts:
            mapping.clear()
            mapping.update(items)
        for sequence, items_ in self._lists:
            sequence[:] = items_
        for members, all_ in self._sets:
            members.clear()
            members.update(all_)
