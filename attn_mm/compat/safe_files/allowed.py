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

import functools
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from attn_mm.compat.safe_files import arrays, records, tensors, values
from attn_mm.compat.safe_files.arguments import Builder, Call, ForbiddenGlobal, Reader, Setter

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


def path_of(item: Any) -> str:
    """The full dotted name by which pickles name a class or function."""
    return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', '')}"


METHODS = {
    path_of(function): function
    for function in (
        *(HistoryBuffer.min, HistoryBuffer.max, HistoryBuffer.mean, HistoryBuffer.current),
        *(OneCycleParamScheduler._annealing_cos, OneCycleParamScheduler._annealing_linear),
    )
}


def _method(reader: Reader, owner: Any, name: Any) -> Any:
    path = f"{path_of(owner)}.{name}" if type(name) is str else ""
    if path not in METHODS:
        raise ForbiddenGlobal(f"getattr(..., {name!r})" if type(name) is str else "getattr(...)")
    return METHODS[path]


_CALLS = {**tensors.CALLS, **arrays.CALLS, **values.CALLS, "builtins.getattr": Call(_method)}
_DATA = (
    *(bool, dict, float, int, list, str, tuple),
    *(torch.Tensor, np.ndarray, OneCycleParamScheduler),
)


@functools.cache
def named() -> dict[str, Any]:
    """Everything that a pickle may name."""
    return {
        **{path_of(cls): cls for cls in (*CLASSES, *_DATA)},
        **{str(dtype): dtype for dtype in tensors.DTYPES},
        **tensors.storages(),
        **_CALLS,
        **METHODS,
    }
