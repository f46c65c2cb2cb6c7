"""What a pickle may name, what of it may be called, and with which arguments.

This is an allow-list of pairs: a callable, and the shape of its arguments as ``torch.save``,
NumPy, mmengine and Python write them. Nothing in it is the callable itself: each entry is a
function here that checks the arguments, charges the memory, and then builds the value.

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

import argparse
import collections
import datetime
import functools
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch.storage import TypedStorage

from attn_mm.compat.pickle_budget import Budget, Refused


class ForbiddenGlobal(Refused):
    """The pickle names a global that is not on the list, or calls one that is only data."""

    def __init__(self, name: str) -> None:
        self.name = textwrap.shorten(ascii(name[:80])[1:-1], 60)
        super().__init__(f"it names {self.name}, which could run code")


class Reader(Protocol):
    """What builders need of the unpickler."""

    budget: Budget

    def torch_file(self, data: bytes) -> Any:
        """Load the file that ``torch.save`` wrote into ``data``."""


class StorageKind(NamedTuple):
    """The type of a storage: data only. Storages come from persistent ids alone."""

    dtype: torch.dtype


class Call(NamedTuple):
    """A name that may be called, in place of the function that it means elsewhere."""

    build: Callable[..., Any]


def expect(condition: Any, what: str) -> None:
    """Raise Refused if a builder's arguments are not of the shape that an honest writer gives them."""
    if not condition:
        raise Refused(f"its {what} is not as any honest file has it")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _are_sizes(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and len(values) <= 64 and all(map(_is_size, values))


_NUMBERS = (int, float)
# Tuples of these, three deep, are keys too. Larger integers can be made to collide.
_KEYS = (str, float, bool, bytes, complex, type(None), np.generic, torch.dtype, torch.device)
_LARGEST_KEY = 1 << 60


def is_key(value: Any, depth: int = 3) -> bool:
    """Whether hashing ``value`` takes little time: tuples may share parts a billion times over."""
    if type(value) is int:
        return abs(value) < _LARGEST_KEY
    if isinstance(value, (tuple, frozenset)):
        return depth > 0 and len(value) <= 64 and all(is_key(item, depth - 1) for item in value)
    return isinstance(value, (*_KEYS, datetime.date, datetime.timedelta))


def expect_keys(values: Any) -> None:
    """Raise Refused unless each of ``values`` is a plain key of a dict or member of a set."""
    for value in values:
        if not is_key(value):
            raise Refused(f"a key in it is a {type(value).__name__} that no honest file has there")


# --- torch


_DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
    if hasattr(torch, name)
)


def is_plain(dtype: Any) -> bool:
    """Whether ``dtype`` is one of plain numbers: not quantised, not packed."""
    return isinstance(dtype, torch.dtype) and dtype in _DTYPES


def _tensor(
    reader: Reader,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> torch.Tensor:
    expect(type(storage) is TypedStorage, "tensor's storage")
    expect(_is_size(offset) and _are_sizes(size) and _are_sizes(stride), "tensor's size")
    expect(len(size) == len(stride) and math.prod(map(max, size, [1] * len(size))) < 1 << 60, "tensor's size")
    expect(type(requires_grad) is bool and not hooks and not metadata, "tensor's metadata")
    item = storage.dtype.itemsize
    if 0 not in size:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))
        if (last + 1) * item > storage._untyped_storage.nbytes():
            raise Refused("a tensor in it reaches beyond its storage")
    reader.budget.take_tensor(math.prod(size) * item)
    data = storage._untyped_storage
    tensor = torch.empty(0, dtype=storage.dtype, device=data.device).set_(data, offset, size, stride)
    tensor.requires_grad = requires_grad
    return tensor


def _parameter(
    reader: Reader, data: Any, requires_grad: Any, hooks: Any = None, state: Any = None
) -> torch.nn.Parameter:
    expect(type(data) is torch.Tensor and type(requires_grad) is bool and not hooks, "parameter")
    expect(state is None or isinstance(state, (dict, tuple)), "parameter's state")
    return torch.nn.Parameter(data, requires_grad)


def _old_parameter(reader: Reader, data: Any = None, requires_grad: Any = True) -> torch.nn.Parameter:
    # As torch 0.1 to 0.3 wrote it, with a state. torchvision's weights of that time are still in use.
    return _parameter(reader, torch.empty(0) if data is None else data, requires_grad)


def _parameter_state(parameter: torch.nn.Parameter, state: Any, reader: Reader) -> None:
    expect(type(state) is tuple and len(state) in (3, 5), "parameter's state")
    if len(state) == 5:
        expect(type(state[0]) is torch.Tensor and state[1] is None, "parameter's state")
        parameter.data = state[0]
        state = (state[3], state[4], state[2])
    expect(type(state[0]) is bool and not state[2], "parameter's state")
    parameter.requires_grad = state[0]


def _from_type(reader: Reader, call: Any, kind: Any, args: Any, state: Any) -> torch.Tensor:
    # A tensor with Python attributes. They are of no use to its readers, and left out.
    expect(call in (REBUILD_TENSOR, _REBUILD_PARAMETER), "tensor's type")
    expect(kind in (torch.Tensor, torch.nn.Parameter) and isinstance(args, tuple), "tensor's type")
    return call.build(reader, *args)


def _torch_file(reader: Reader, data: Any) -> Any:
    expect(type(data) is bytes, "tensor")
    return reader.torch_file(data)


def _shape(reader: Reader, sizes: Any = ()) -> torch.Size:
    expect(_are_sizes(sizes), "torch.Size")
    return torch.Size(sizes)


def _device(reader: Reader, kind: Any, index: Any = None) -> torch.device:
    expect(type(kind) is str and (index is None or type(index) is int), "torch.device")
    return torch.device(kind) if index is None else torch.device(kind, index)


REBUILD_TENSOR = Call(_tensor)
_REBUILD_PARAMETER = Call(_parameter)


# --- NumPy


def _bytes(data: Any) -> bytes:
    # Python 2 wrote bytes as text.
    return data.encode("latin1") if type(data) is str else data


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
    data = _bytes(data)
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
    data = _bytes(data)
    expect(_are_sizes(shape) and isinstance(shape, tuple) and isinstance(dtype, np.dtype), "array")
    count = math.prod(shape)
    if dtype.hasobject:
        expect(type(data) is list and len(data) == count, "array")
    else:
        expect(type(data) is bytes and len(data) == count * dtype.itemsize, "array")
    reader.budget.take_objects(count * dtype.itemsize)
    array.__setstate__((version, shape, dtype, bool(state[3]), data))


def _from_buffer(reader: Reader, data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    expect(type(data) in (bytes, bytearray) and isinstance(dtype, np.dtype) and not dtype.hasobject, "array")
    expect(_are_sizes(shape) and order in ("C", "F"), "array")
    expect(math.prod(shape) * dtype.itemsize == len(data), "array")
    if not data:
        return np.empty(shape, dtype, order)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


# --- Python


def _copied(reader: Reader, items: Any, types: tuple[type, ...], what: str) -> Any:
    # What is copied may be in the file once, and copied a million times.
    expect(type(items) in types, what)
    reader.budget.take_objects(100 * len(items))
    return items


def _set(cls: type) -> Callable[..., Any]:
    def build(reader: Reader, items: Any = ()) -> Any:
        _copied(reader, items, (list, tuple, set), "set")
        expect_keys(items)
        return cls(items)

    return build


def _pairs(reader: Reader, items: Any) -> dict:
    if type(_copied(reader, items, (list, tuple, dict), "dict")) is not dict:
        expect(all(type(pair) in (list, tuple) and len(pair) == 2 for pair in items), "dict")
        expect_keys(key for key, _ in items)
    return dict(items)


def _ordered(reader: Reader, items: Any = ()) -> collections.OrderedDict:
    return collections.OrderedDict(_pairs(reader, items) if items else ())


def _counter(reader: Reader, items: Any = ()) -> collections.Counter:
    counter: collections.Counter = collections.Counter()
    dict.update(counter, _pairs(reader, items))
    return counter


_FACTORIES = (list, dict, set, int, float, str, tuple, bool, collections.OrderedDict)


def _default(reader: Reader, factory: Any = None) -> collections.defaultdict:
    expect(factory is None or factory in _FACTORIES, "defaultdict")
    return collections.defaultdict(factory)


def _config(reader: Reader, items: Any = ()) -> ConfigDict:
    config = ConfigDict()
    # Not through its constructor, which copies every nested dict.
    dict.update(config, _pairs(reader, items))
    return config


def _deque(reader: Reader, items: Any = (), longest: Any = None) -> collections.deque:
    expect(longest is None or _is_size(longest), "deque")
    return collections.deque(_copied(reader, items, (list, tuple), "deque"), longest)


def _latin1(reader: Reader, text: Any, encoding: Any = "latin1") -> bytes:
    # Protocol 2 writes bytes so; any other codec would be imported by its name.
    if encoding not in ("latin1", "latin-1"):
        raise ForbiddenGlobal("_codecs.encode")
    expect(type(text) is str, "text")
    reader.budget.take_objects(len(text))
    return text.encode("latin1")


def _byte_string(reader: Reader, data: Any = b"") -> bytes:
    expect(type(data) is bytes, "bytes")
    return data


def _byte_array(reader: Reader, data: Any = b"", encoding: Any = "latin1") -> bytearray:
    if type(data) is str:
        data = _latin1(reader, data, encoding)
    expect(type(data) is bytes, "bytearray")
    reader.budget.take_objects(len(data))
    return bytearray(data)


def _complex(reader: Reader, real: Any, imaginary: Any) -> complex:
    expect(type(real) in _NUMBERS and type(imaginary) in _NUMBERS, "complex number")
    return complex(real, imaginary)


def _range(reader: Reader, start: Any, stop: Any, step: Any) -> range:
    expect(all(type(number) is int and abs(number) < 1 << 48 for number in (start, stop, step)), "range")
    numbers = range(start, stop, step)
    reader.budget.take_objects(40 * len(numbers))
    return numbers


def _slice(reader: Reader, *bounds: Any) -> slice:
    expect(all(bound is None or type(bound) is int for bound in bounds), "slice")
    return slice(*bounds)


def _time(cls: type) -> Callable[..., Any]:
    def build(reader: Reader, *args: Any) -> Any:
        values = [_bytes(arg) if type(arg) is str else arg for arg in args]
        expect(len(args) <= 3 and all(type(value) in (int, bytes) for value in values), "date")
        return cls(*values)

    return build


def _method(reader: Reader, owner: Any, name: Any) -> Any:
    path = f"{path_of(owner)}.{name}" if type(name) is str else ""
    if path not in METHODS:
        raise ForbiddenGlobal(f"getattr(..., {name!r})" if type(name) is str else "getattr(...)")
    return METHODS[path]


# --- records, whose state is set after they are built


def _new(cls: type) -> Callable[..., Any]:
    def build(reader: Reader) -> Any:
        reader.budget.take_objects(400)
        return object.__new__(cls)

    return build


def _is_name(key: Any) -> bool:
    return type(key) is str and not key.startswith("__")


def _fields(record: Any, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and all(map(_is_name, state)), f"{type(record).__name__}")
    reader.budget.take_objects(100 * len(state))
    record.__dict__.update(state)


def _history(record: HistoryBuffer, state: Any, reader: Reader) -> None:
    expect(type(state) is dict, "HistoryBuffer")
    known = {"max_length", "_log_history", "_count_history", "statistics_methods", "_statistics_methods"}
    expect(state.keys() <= known and _is_size(state.get("max_length")), "HistoryBuffer")
    histories: list[Any] = [state.get("_log_history"), state.get("_count_history")]
    for history in histories:
        numbers = isinstance(history, np.ndarray) and history.ndim == 1 and history.dtype.kind in "biuf"
        expect(numbers and len(history) == len(histories[0]), "HistoryBuffer")
    record.max_length = state["max_length"]
    record._log_history, record._count_history = histories
    # The methods are the class's own, whatever the file says.
    record._set_default_statistics()


_HUB = {"_instance_name", "instance_name", "_log_scalars", "_runtime_info", "_resumed_keys"}


def _hub(record: MessageHub, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and state.keys() <= _HUB, "MessageHub")
    record.__dict__.update(state)


def _element(record: BaseDataElement, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and all(map(_is_name, state)), "data element")
    own = ("_metainfo_fields", "_data_fields")
    expect(all(type(state.get(key)) is set for key in own), "data element")
    expect(state.keys() - own <= state[own[0]] | state[own[1]], "data element")
    expect(not any(hasattr(type(record), key) for key in state.keys() - own), "data element")
    record.__dict__.update(state)


def _ordered_state(record: collections.OrderedDict, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and state.keys() <= {"_metadata"}, "OrderedDict")
    expect(isinstance(state.get("_metadata", {}), dict), "OrderedDict")
    record.__dict__.update(state)


def _config_state(record: ConfigDict, state: Any, reader: Reader) -> None:
    expect(isinstance(state, dict), "ConfigDict")
    reader.budget.take_objects(100 * len(state))
    dict.update(record, state)


_ELEMENTS = (BaseDataElement, InstanceData, LabelData, PixelData)

STATES: dict[type, Callable[[Any, Any, Reader], None]] = {
    torch.nn.Parameter: _parameter_state,
    np.ndarray: _array_state,
    np.dtype: _dtype_state,
    collections.OrderedDict: _ordered_state,
    ConfigDict: _config_state,
    HistoryBuffer: _history,
    MessageHub: _hub,
    argparse.Namespace: _fields,
    **dict.fromkeys(_ELEMENTS, _element),
}

# Classes, which are data too, and how they are built.
CLASSES: dict[type, Callable[..., Any]] = {
    bytes: _byte_string,
    bytearray: _byte_array,
    complex: _complex,
    range: _range,
    slice: _slice,
    set: _set(set),
    frozenset: _set(frozenset),
    collections.OrderedDict: _ordered,
    collections.Counter: _counter,
    collections.defaultdict: _default,
    collections.deque: _deque,
    datetime.date: _time(datetime.date),
    datetime.datetime: _time(datetime.datetime),
    datetime.timedelta: _time(datetime.timedelta),
    torch.nn.Parameter: _old_parameter,
    torch.Size: _shape,
    torch.device: _device,
    np.dtype: _dtype,
    ConfigDict: _config,
    **{cls: _new(cls) for cls in (argparse.Namespace, HistoryBuffer, MessageHub, *_ELEMENTS)},
}

CALLS = {
    "torch._utils._rebuild_tensor": REBUILD_TENSOR,
    "torch._utils._rebuild_tensor_v2": REBUILD_TENSOR,
    "torch._utils._rebuild_parameter": _REBUILD_PARAMETER,
    "torch._utils._rebuild_parameter_with_state": _REBUILD_PARAMETER,
    "torch._tensor._rebuild_from_type_v2": Call(_from_type),
    "torch.storage._load_from_bytes": Call(_torch_file),
    "numpy._core.multiarray._reconstruct": Call(_empty_array),
    "numpy._core.multiarray.scalar": Call(_scalar),
    "numpy._core.numeric._frombuffer": Call(_from_buffer),
    "_codecs.encode": Call(_latin1),
    "builtins.getattr": Call(_method),
}


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

_DATA = (
    *(bool, dict, float, int, list, str, tuple),
    *(torch.Tensor, np.ndarray, OneCycleParamScheduler),
)


def _storages() -> dict[str, Any]:
    names = torch.storage._dtype_to_storage_type_map()
    kinds = {names[dtype]: StorageKind(dtype) for dtype in _DTYPES if dtype in names}
    untyped = {"torch.storage.UntypedStorage": StorageKind(torch.uint8)}
    # Files of torch 0.1 to 0.3 also name the types of tensors, and those on a GPU.
    old = {
        f"{module}.{name}": kind
        for module in ("torch", "torch.cuda")
        for storage, kind in kinds.items()
        for name in (storage, storage.replace("Storage", "Tensor"))
    }
    return {**untyped, **old}


@functools.cache
def named() -> dict[str, Any]:
    """Everything that a pickle may name."""
    return {
        **{path_of(cls): cls for cls in (*CLASSES, *_DATA)},
        **{str(dtype): dtype for dtype in _DTYPES},
        **_storages(),
        **CALLS,
        **METHODS,
    }
