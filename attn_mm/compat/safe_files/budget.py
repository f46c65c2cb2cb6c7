"""How much memory a pickle may ask for: a small multiple of the file it is in.

A pickle of a hundred bytes can ask for any amount: ``range(10**9)``, a thousand copies of
one list, a tensor of 10 GB over a storage of four bytes. Each request is charged here
before it is fulfilled.
"""

from __future__ import annotations

import argparse
import collections
import pickle
from typing import Any, NoReturn

import numpy as np

_FREE = 64 << 20
# Bytes of Python objects for each byte of a file. Tuples of two small integers need about 30.
_OBJECTS = 40
# Tensors may share storages: tied weights, an average that has not begun.
_VIEWS = 4
_DEPTH = 100
_COPIES = 1_000_000


class Refused(pickle.UnpicklingError):
    """The pickle asks for what no file of data needs. Nothing of it was done."""


class Budget:
    """What one file may still ask for.

    Args:
        size: of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._objects = _FREE + _OBJECTS * size
        self._storages = size
        self._tensors = _FREE + _VIEWS * size

    def _refuse(self, kind: str) -> NoReturn:
        raise Refused(f"its {kind} need more memory than a file of {self.size:,} bytes can hold")

    def take_objects(self, amount: int) -> None:
        """Charge ``amount`` bytes of containers, numbers and text; Refused if there are none left."""
        self._objects -= amount
        if self._objects < 0:
            self._refuse("Python objects")

    def take_storage(self, amount: int) -> None:
        """Charge a storage of ``amount`` bytes, which must be in the file; Refused if it can't be."""
        self._storages -= amount
        if self._storages < 0:
            self._refuse("storages")

    def take_tensor(self, amount: int) -> None:
        """Charge a tensor of ``amount`` bytes, which a copy of it needs; Refused if there are none left."""
        self._tensors -= amount
        if self._tensors < 0:
            self._refuse("tensors")


_records: tuple[type, ...] = (argparse.Namespace,)


def add_records(types: tuple[type, ...]) -> None:
    """Let :func:`check_tree` look into the attributes of objects of these types."""
    global _records
    _records += types


def _children(item: Any) -> list:
    if isinstance(item, dict):
        return [*dict.keys(item), *dict.values(item), *_attributes(item)]
    if isinstance(item, (list, tuple, set, frozenset, collections.deque)):
        return list(item)
    if isinstance(item, np.ndarray):
        return item.ravel().tolist() if item.dtype == object else []
    return _attributes(item) if isinstance(item, _records) else []


def _attributes(item: Any) -> list:
    return list(getattr(item, "__dict__", {}).values())


_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})


def check_tree(root: Any) -> None:
    """Check that a loaded value is a tree that its readers can walk, copy and print.

    Lists that contain each other twice, thirty levels deep, are a few hundred bytes, but a
    billion elements to whoever copies them.

    Raises:
        Refused: if it contains itself, is nested too deeply, or is huge once its shared parts are copied.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()
    # From the root to the item at hand: each item, its children, and those not measured yet.
    path: list[tuple[Any, list, list]] = []

    def enter(item: Any) -> None:
        if id(item) in open_:
            raise Refused("a list or dict in it contains itself")
        if len(path) >= _DEPTH:
            raise Refused(f"its lists and dicts are nested more than {_DEPTH} levels deep")
        children = [child for child in _children(item) if type(child) not in _LEAVES]
        open_.add(id(item))
        path.append((item, children, list(children)))

    enter(root)
    while path:
        item, children, left = path[-1]
        while left and id(left[-1]) in sizes:
            left.pop()
        if left:
            enter(left.pop())
            continue
        own = len(item) if isinstance(item, (dict, list, tuple, set, frozenset)) else 1
        sizes[id(item)] = 1 + own + sum(sizes[id(child)] for child in children)
        open_.discard(id(item))
        path.pop()
    if sizes[id(root)] > _COPIES + 4 * len(sizes):
        raise Refused("its parts repeat each other into more than a million elements")
