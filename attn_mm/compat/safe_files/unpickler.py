"""An unpickler that builds tensors, arrays and mmengine's records, and can't run code.

A pickle is a program: it names globals, calls them, and sets the state of the results. Here
a name means only what :mod:`attn_mm.compat.safe_files.allowed` lists, and memory is charged to a
:class:`~attn_mm.compat.safe_files.budget.Budget` before it is taken. What the user has passed to
``torch.serialization.add_safe_globals`` is called as pickle does.
"""

from __future__ import annotations

import collections
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from typing import IO, Any, ClassVar

import numpy as np
import torch

from attn_mm.compat.safe_files.allowed import DICTS, STATES, builder_of, find, path_of
from attn_mm.compat.safe_files.arguments import (
    ForbiddenGlobal,
    StorageKind,
    expect,
    expect_keys,
    is_key,
)
from attn_mm.compat.safe_files.budget import Budget, Refused

_MOST_MARKS = 10_000


def _trusted() -> dict[str, Any]:
    """What the user has allowed, by name; torch's own entries there are not the user's."""
    pairs = (
        item if isinstance(item, tuple) else (item, path_of(item))
        for item in torch.serialization.get_safe_globals()
    )
    return {
        path: item for item, path in pairs if not path.startswith(("torch.distributed.", "torch.nested."))
    }


def _described(item: Any) -> str:
    if type(item) is StorageKind:
        return "the constructor of a torch storage"
    return path_of(item) if hasattr(item, "__qualname__") else f"a call or change of a {type(item).__name__}"


class _NoLonger:
    """A file that takes no memory for more bytes than it has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, size: int) -> bytes:
        if size > self._size:
            raise pickle.UnpicklingError(f"it names {size} bytes, and has {self._size}")
        return self._file.read(size)


class Unpickler(pickle._Unpickler):
    """Python's own unpickler with an allow-list in each instruction that names, calls or builds.

    Args:
        file: a binary file at the beginning of a pickle.
        budget: what it may still ask for.
        encoding: of the text that Python 2 wrote.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {}
    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: IO[bytes], budget: Budget, encoding: str = "utf-8") -> None:
        super().__init__(_NoLonger(file, budget.size), encoding=encoding)
        self.budget = budget

    def torch_file(self, data: bytes) -> Any:
        """Load the file that ``torch.save`` wrote into ``data``, as pickles of tensors have it."""
        raise ForbiddenGlobal("torch.storage._load_from_bytes")

    def storage(self, name: Any) -> Any:
        """The storage that a persistent id names."""
        raise Refused("it names a storage outside of it, which only files of torch.save have")

    # --- names and calls

    def find_class(self, module: str, name: str) -> Any:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if module.startswith("numpy.core"):  # what NumPy 1 calls numpy._core
            module = module.replace("numpy.core", "numpy._core", 1)
        path = f"{module}.{name}"
        known = find(path)
        if known is not None:
            return known
        trusted = _trusted()
        if path in trusted:
            return trusted[path]
        raise ForbiddenGlobal(path)

    def _call(self, function: Any, args: Any) -> Any:
        self.budget.take_objects(100)
        expect(type(args) is tuple, "call")
        build = builder_of(function)
        if build is not None:
            try:
                return build(self, *args)
            except TypeError:
                raise Refused("a call in it has unexpected arguments") from None
        if any(function is item for item in _trusted().values()):
            return function(*args)
        raise ForbiddenGlobal(_described(function))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        if isinstance(cls, type) and any(cls is item for item in _trusted().values()):
            self.append(cls.__new__(cls, *args))
        else:
            self.append(self._call(cls, args))

    def load_newobj_ex(self) -> None:
        options = self.stack.pop()
        expect(type(options) is dict, "call")
        if not options:
            return self.load_newobj()
        args, cls = self.stack.pop(), self.stack.pop()
        if not (isinstance(cls, type) and any(cls is item for item in _trusted().values())):
            raise ForbiddenGlobal(_described(cls))
        self.append(cls.__new__(cls, *args, **options))

    def load_build(self) -> None:
        target, state = self.stack[-2:]
        # Each of NumPy's dtypes is of a class of its own.
        update = STATES.get(np.dtype if isinstance(target, np.dtype) else type(target))
        if update is not None:
            update(target, state, self)
            del self.stack[-1]
            return
        if not any(type(target) is item for item in _trusted().values()):
            raise ForbiddenGlobal(_described(target))
        super().load_build()  # type: ignore[misc]  # typeshed has not this method

    def load_binpersid(self) -> None:
        self.append(self.storage(self.stack.pop()))

    def _forbidden(self) -> None:
        raise Refused("it has an instruction that files of data never have")

    load_persid = load_inst = load_obj = load_ext1 = load_ext2 = load_ext4 = _forbidden
    load_next_buffer = load_readonly_buffer = _forbidden

    # --- containers, and what they cost where an instruction is shorter than a fortieth of it

    def load_mark(self) -> None:
        if len(self.metastack) > _MOST_MARKS:
            raise Refused("its lists are nested more than 10,000 levels deep")
        super().load_mark()  # type: ignore[misc]

    def load_memoize(self) -> None:
        self.budget.take_objects(100)
        super().load_memoize()  # type: ignore[misc]

    def load_empty_list(self) -> None:
        self.budget.take_objects(80)
        self.append([])

    def load_list(self) -> None:
        items = self.pop_mark()
        self.budget.take_objects(80)
        self.append(items)

    def load_empty_dictionary(self) -> None:
        self.budget.take_objects(80)
        self.append({})

    def load_empty_set(self) -> None:
        self.budget.take_objects(230)
        self.append(set())

    def load_tuple1(self) -> None:
        self.budget.take_objects(70)
        super().load_tuple1()  # type: ignore[misc]

    def load_tuple2(self) -> None:
        self.budget.take_objects(80)
        super().load_tuple2()  # type: ignore[misc]

    def load_tuple3(self) -> None:
        self.budget.take_objects(90)
        super().load_tuple3()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.budget.take_objects(230 + 100 * len(items))
        expect_keys(items)
        self.append(frozenset(items))

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        expect(type(target) is set, "set")
        self.budget.take_objects(100 * len(items))
        expect_keys(items)
        target.update(items)

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        # Read first: an array of any length is memory.
        self.append(bytearray(self.read(length)))

    def load_append(self) -> None:
        value = self.stack.pop()
        self._expect_list().append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._expect_list().extend(items)

    def _expect_list(self) -> Any:
        target = self.stack[-1]
        expect(type(target) in (list, collections.deque), "list")
        return target

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        set_item = DICTS.get(type(target))
        if set_item is None or len(items) % 2:
            raise Refused("its dict is malformed")
        self.budget.take_objects(50 * len(items))
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str and not is_key(key):
                raise Refused(f"a key in it is a {type(key).__name__}, which is not allowed there")
            set_item(target, key, value)


for _code, _method in pickle._Unpickler.dispatch.items():
    Unpickler.dispatch[_code] = getattr(Unpickler, _method.__name__)
