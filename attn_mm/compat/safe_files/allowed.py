"""What a pickle may name, what of it may be called, and with which arguments.

This is an allow-list of pairs: a callable, and the shape of its arguments as ``torch.save``,
NumPy, mmengine and Python write them. Nothing in it is the callable itself: each entry is a
function of this package that checks the arguments, charges the memory, and then builds the value.

- A name that is only data, such as ``torch.float16`` or ``list`` as the factory of a
  ``defaultdict``, can't be called.
- The state of a built object is set on the listed types only, with the listed keys.
- A tensor lies within its storage, and a storage within its file. Backward hooks, sparse,
  quantised and meta tensors are refused: no checkpoint of the frameworks has them.
- NumPy's own constructors are unsafe on hostile input: ``ndarray(1, 'O', raw)`` reads
  ``raw`` as object pointers, and a dtype's state overrides the flags that prevent this.
  Arrays therefore start empty, and a dtype's state must be the one NumPy writes for it.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from attn_mm.compat.safe_files import arrays, records, tensors, values
from attn_mm.compat.safe_files.arguments import Builder, Call, ForbiddenGlobal, Reader, Setter
from attn_mm.compat.safe_files.budget import add_records

STATES: dict[type, Setter] = {
    **tensors.STATES,
    **arrays.STATES,
    **records.STATES,
}
"""How the state of an object of each type is set."""

CLASSES: dict[type, Builder] = {
    **tensors.CLASSES,
    **arrays.CLASSES,
    **values.CLASSES,
    **records.CLASSES,
}
"""Classes, which are data too, and how they are built."""

DICTS: dict[type, Callable[..., None]] = {
    dict: dict.__setitem__,
    collections.OrderedDict: collections.OrderedDict.__setitem__,
    collections.defaultdict: dict.__setitem__,
    collections.Counter: dict.__setitem__,
}
"""How a key is set in a dict of each type."""


def path_of(item: Any) -> str:
    """The full dotted name by which pickles name a class or function."""
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', '')}"


METHODS: dict[str, Any] = {}
"""Methods that a pickle may name, by their full names; they are never called."""


def _method(reader: Reader, owner: Any, name: Any) -> Any:
    path = f"{path_of(owner)}.{name}" if type(name) is str else ""
    if path not in METHODS:
        raise ForbiddenGlobal(f"getattr(..., {name!r})" if type(name) is str else "getattr(...)")
    return METHODS[path]


_CALLS = {**tensors.CALLS, **arrays.CALLS, **values.CALLS, "builtins.getattr": Call(_method)}
_DATA = (*(bool, dict, float, int, list, str, tuple), *(torch.Tensor, np.ndarray))


@functools.cache
def _named() -> dict[str, Any]:
    return {
        **{path_of(cls): cls for cls in (*CLASSES, *_DATA)},
        **{str(dtype): dtype for dtype in tensors.DTYPES},
        **tensors.storages(),
        **_CALLS,
    }


@functools.cache
def _learn_mmengine() -> None:
    from attn_mm.compat.safe_files import mmengine_records

    CLASSES.update(mmengine_records.CLASSES)
    STATES.update(mmengine_records.STATES)
    DICTS.update(mmengine_records.DICTS)
    METHODS.update({path_of(method): method for method in mmengine_records.METHODS})
    add_records(mmengine_records.RECORDS)
    _BUILDERS.update({id(cls): build for cls, build in mmengine_records.CLASSES.items()})
    _named().update(METHODS)
    _named().update({path_of(cls): cls for cls in (*mmengine_records.CLASSES, *mmengine_records.DATA)})


def find(path: str) -> Any:
    """What a pickle means by a full dotted name; None where it may not name that."""
    if path.startswith("mmengine."):
        _learn_mmengine()
    return _named().get(path)


_BUILDERS = {id(cls): build for cls, build in CLASSES.items()}


def builder_of(item: Any) -> Builder | None:
    """How ``item`` is built when a pickle calls it; None where it may not be called."""
    # By identity: what is called may be anything, also what can't be hashed.
    return item.build if type(item) is Call else _BUILDERS.get(id(item))
