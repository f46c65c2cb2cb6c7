"""An unpickler that builds tensors, arrays and mmengine's records, and can't run code.

``torch.load(pickle_module=...)`` needs a module with ``Unpickler`` and ``load``;
this is one. A pickle is a program: it names globals, calls them, and sets the
state of the results. All three are restricted:

- A global must be on the list: torch's list for weights files, NumPy's arrays and
  scalars, mmengine's records, plain values, and anything passed to
  ``torch.serialization.add_safe_globals``.
- ``getattr`` returns only the methods that mmengine's ``HistoryBuffer`` and
  ``OneCycle`` scheduler refer to.
- State may be set on built objects only, never on the listed classes and functions.

NumPy's constructors are unsafe on hostile input: ``ndarray(1, 'O', raw)`` reads
``raw`` as object pointers, and a dtype's state overrides the flags that prevent
this. Arrays therefore start empty, and a dtype's state must be the one that NumPy
itself writes for it.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch import _weights_only_unpickler

_CLASSES = (
    *(bool, bytearray, bytes, complex, dict, float, frozenset, int, list, range, set, slice, str, tuple),
    collections.Counter,
    collections.defaultdict,
    collections.deque,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    argparse.Namespace,
    ConfigDict,
    HistoryBuffer,
    MessageHub,
    OneCycleParamScheduler,
)


class ForbiddenGlobal(pickle.UnpicklingError):
    """Raised if the pickle names a global that is not on the list."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not allowed in a checkpoint")
        self.name = name


def _methods() -> dict[str, Any]:
    # The class fills its table of methods when it is first instantiated.
    functions = (
        *HistoryBuffer()._statistics_methods.values(),
        OneCycleParamScheduler._annealing_cos,
        OneCycleParamScheduler._annealing_linear,
    )
    return {_path(function): function for function in functions}


def _method(owner: Any, name: str) -> Any:
    path = f"{_path(owner)}.{name}"
    if path not in _methods():
        raise ForbiddenGlobal(f"getattr(..., {name!r})")
    return _methods()[path]


def _path(item: Any) -> str:
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', '')}"


def _latin1(text: str, encoding: str) -> bytes:
    # Protocol 2 writes bytes so; any other codec would be imported by its name.
    if encoding != "latin1":
        raise ForbiddenGlobal("_codecs.encode")
    return text.encode("latin1")


def _empty_array(*_: Any) -> np.ndarray:
    return np.empty(0, np.int8)


def _ndarray(*_: Any) -> None:
    # The first argument of _reconstruct: to be named there, never to be called.
    raise ForbiddenGlobal("numpy.ndarray(...)")


def _dtype(code: str, *_: Any) -> np.dtype:
    # A copy: a state with a byte order would otherwise change NumPy's one float64 for all.
    dtype = np.dtype(str(code), copy=True)
    if dtype.kind not in "biufcOSU":
        raise ForbiddenGlobal(f"numpy.dtype({code!r})")
    return dtype


def _is_genuine(dtype: np.dtype, state: tuple) -> bool:
    return state == dtype.newbyteorder(state[1]).__reduce__()[2]


@functools.cache
def _allowed() -> dict[str, Any]:
    return {
        **_weights_only_unpickler._get_allowed_globals(),
        **{_path(cls): cls for cls in _CLASSES},
        "builtins.getattr": _method,
        "_codecs.encode": _latin1,
        "numpy._core.multiarray._reconstruct": _empty_array,
        "numpy._core.multiarray.scalar": np.float64().__reduce__()[0],
        "numpy.dtype": _dtype,
        "numpy.ndarray": _ndarray,
    }


def _named(path: str) -> Any:
    for allowed in (_allowed(), _methods(), _trusted()):
        if path in allowed:
            return allowed[path]
    raise ForbiddenGlobal(path)


def _trusted() -> dict[str, Any]:
    pairs = (
        item if isinstance(item, tuple) else (item, _path(item))
        for item in torch.serialization.get_safe_globals()
    )
    return {path: item for item, path in pairs}


class Unpickler(pickle._Unpickler):
    """Python's own unpickler; the one in C has no hook for setting state."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if module.startswith("numpy.core"):  # what NumPy 1 calls numpy._core
            module = module.replace("numpy.core", "numpy._core", 1)
        return _named(f"{module}.{name}")

    def load_build(self) -> None:
        target, state = self.stack[-2:]
        if isinstance(target, (type, FunctionType, BuiltinFunctionType)):
            raise ForbiddenGlobal(f"changing {target.__module__}.{target.__qualname__}")
        if isinstance(target, np.dtype) and not _is_genuine(target, state):
            raise ForbiddenGlobal(f"numpy.dtype of {target} with altered state")
        if isinstance(target, np.ndarray) and target.size:
            raise ForbiddenGlobal("refilling a numpy.ndarray")
        super().load_build()  # type: ignore[misc]  # typeshed has not this method

    dispatch[pickle.BUILD[0]] = load_build


def load(file: Any, **options: Any) -> Any:
    """Read one pickle from ``file``; ``options`` are those of :class:`pickle.Unpickler`.

    Raises:
        ForbiddenGlobal: if the pickle uses more than the list above allows.
    """
    return Unpickler(file, **options).load()
