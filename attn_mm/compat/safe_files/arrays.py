"""Build NumPy's arrays and scalars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from attn_mm.compat.safe_files.arguments import Builder, Call, Reader, Setter, are_sizes, as_bytes, expect


def _dtype(reader: Reader, code: Any, *_: Any) -> np.dtype:
    expect(type(code) in (str, np.str_, bytes) and len(code) < 16, "numpy.dtype")
    text = code.decode("ascii") if type(code) is bytes else str(code)
    # A copy: a state with a byte order would otherwise change NumPy's one float64 for all.
    dtype: np.dtype = np.dtype(text, copy=True)
    expect(dtype.kind in "biufcOSU" and dtype.names is None and dtype.subdtype is None, "numpy.dtype")
    return dtype


def _dtype_state(dtype: np.dtype, state: Any, reader: Reader) -> None:
    expect(isinstance(state, tuple) and len(state) >= 2, "numpy.dtype")
    order = state[1].decode("ascii") if type(state[1]) is bytes else state[1]
    expect(type(order) is str and order in "<>|=" and len(order) == 1, "numpy.dtype")
    genuine = dtype.newbyteorder(order).__reduce__()[2]  # type: ignore[arg-type]
    state = (state[0], order, *state[2:])
    expect(all(isinstance(item, (int, str, type(None))) for item in state), "numpy.dtype")
    expect(state[1:] == genuine[1:], "numpy.dtype")
    dtype.__setstate__(genuine)  # type: ignore[attr-defined]


def _scalar(reader: Reader, dtype: Any, data: Any) -> np.generic:
    data = as_bytes(data)
    expect(isinstance(dtype, np.dtype) and not dtype.hasobject and type(data) is bytes, "NumPy number")
    expect(len(data) == dtype.itemsize, "NumPy number")
    reader.budget.take_objects(100 + 2 * len(data))
    return np.frombuffer(data, dtype, 1)[0] if data else dtype.type()


def _empty_array(reader: Reader, cls: Any, shape: Any, code: Any) -> np.ndarray:
    expect(cls is np.ndarray and shape == (0,) and code in (b"b", "b"), "array")
    return np.empty(0, np.int8)


def _array_state(array: Any, state: Any, reader: Reader) -> None:
    expect(not array.size and isinstance(state, tuple) and len(state) == 5, "array")
    version, shape, dtype, _, data = state
    data = as_bytes(data)
    expect(are_sizes(shape) and isinstance(shape, tuple) and isinstance(dtype, np.dtype), "array")
    count = math.prod(shape)
    if dtype.hasobject:
        expect(type(data) is list and len(data) == count, "array")
    else:
        expect(type(data) is bytes and len(data) == count * dtype.itemsize, "array")
    reader.budget.take_objects(count * dtype.itemsize)
    array.__setstate__((version, shape, dtype, bool(state[3]), data))


def _from_buffer(reader: Reader, data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    expect(type(data) in (bytes, bytearray) and isinstance(dtype, np.dtype) and not dtype.hasobject, "array")
    expect(are_sizes(shape) and order in ("C", "F"), "array")
    expect(math.prod(shape) * dtype.itemsize == len(data), "array")
    if not data:
        return np.empty(shape, dtype, order)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


CALLS = {
    "numpy._core.multiarray._reconstruct": Call(_empty_array),
    "numpy._core.multiarray.scalar": Call(_scalar),
    "numpy._core.numeric._frombuffer": Call(_from_buffer),
}
CLASSES: dict[type, Builder] = {np.dtype: _dtype}
STATES: dict[type, Setter] = {np.ndarray: _array_state, np.dtype: _dtype_state}
