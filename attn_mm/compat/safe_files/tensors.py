"""Build torch's tensors, parameters and their parts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.storage import TypedStorage

from attn_mm.compat.safe_files.arguments import (
    Builder,
    Call,
    Reader,
    Setter,
    StorageKind,
    are_sizes,
    expect,
    is_size,
)
from attn_mm.compat.safe_files.budget import Refused

DTYPES = frozenset(
    getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex64", "complex128", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    )
    if hasattr(torch, name)
)


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
    expect(is_size(offset) and are_sizes(size) and are_sizes(stride), "tensor's size")
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
    expect(are_sizes(sizes), "torch.Size")
    return torch.Size(sizes)


def _device(reader: Reader, kind: Any, index: Any = None) -> torch.device:
    expect(type(kind) is str and (index is None or type(index) is int), "torch.device")
    return torch.device(kind) if index is None else torch.device(kind, index)


REBUILD_TENSOR = Call(_tensor)
_REBUILD_PARAMETER = Call(_parameter)

CALLS = {
    "torch._utils._rebuild_tensor": REBUILD_TENSOR,
    "torch._utils._rebuild_tensor_v2": REBUILD_TENSOR,
    "torch._utils._rebuild_parameter": _REBUILD_PARAMETER,
    "torch._utils._rebuild_parameter_with_state": _REBUILD_PARAMETER,
    "torch._tensor._rebuild_from_type_v2": Call(_from_type),
    "torch.storage._load_from_bytes": Call(_torch_file),
}
CLASSES: dict[type, Builder] = {torch.nn.Parameter: _old_parameter, torch.Size: _shape, torch.device: _device}
STATES: dict[type, Setter] = {torch.nn.Parameter: _parameter_state}


def storages() -> dict[str, StorageKind]:
    """The types of storages by the names that pickles have for them."""
    names = torch.storage._dtype_to_storage_type_map()
    kinds = {names[dtype]: StorageKind(dtype) for dtype in DTYPES if dtype in names}
    untyped = {"torch.storage.UntypedStorage": StorageKind(torch.uint8)}
    # Files of torch 0.1 to 0.3 also name the types of tensors, and those on a GPU.
    old = {
        f"{module}.{name}": kind
        for module in ("torch", "torch.cuda")
        for storage, kind in kinds.items()
        for name in (storage, storage.replace("Storage", "Tensor"))
    }
    return {**untyped, **old}
