"""Build Python's own values, and containers that are copied from others."""

from __future__ import annotations

import collections
import datetime
from typing import Any

from attn_mm.compat.safe_files.arguments import (
    Builder,
    Call,
    ForbiddenGlobal,
    Reader,
    as_bytes,
    expect,
    expect_keys,
    is_size,
)

_NUMBERS = (int, float)


def _copied(reader: Reader, items: Any, types: tuple[type, ...], what: str) -> Any:
    # What is copied may be in the file once, and copied a million times.
    expect(type(items) in types, what)
    reader.budget.take_objects(100 * len(items))
    return items


def _set(cls: type) -> Builder:
    def build(reader: Reader, items: Any = ()) -> Any:
        _copied(reader, items, (list, tuple, set), "set")
        expect_keys(items)
        return cls(items)

    return build


def pairs(reader: Reader, items: Any) -> dict:
    """A dict from a dict, or from pairs of a key and a value."""
    if type(_copied(reader, items, (list, tuple, dict), "dict")) is not dict:
        expect(all(type(pair) in (list, tuple) and len(pair) == 2 for pair in items), "dict")
        expect_keys(key for key, _ in items)
    return dict(items)


def _ordered(reader: Reader, items: Any = ()) -> collections.OrderedDict:
    return collections.OrderedDict(pairs(reader, items) if items else ())


def _counter(reader: Reader, items: Any = ()) -> collections.Counter:
    counter: collections.Counter = collections.Counter()
    dict.update(counter, pairs(reader, items))
    return counter


_FACTORIES = (list, dict, set, int, float, str, tuple, bool, collections.OrderedDict)


def _default(reader: Reader, factory: Any = None) -> collections.defaultdict:
    expect(factory is None or factory in _FACTORIES, "defaultdict")
    return collections.defaultdict(factory)


def _deque(reader: Reader, items: Any = (), longest: Any = None) -> collections.deque:
    expect(longest is None or is_size(longest), "deque")
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


def _time(cls: type) -> Builder:
    def build(reader: Reader, *args: Any) -> Any:
        values = [as_bytes(arg) if type(arg) is str else arg for arg in args]
        expect(len(args) <= 3 and all(type(value) in (int, bytes) for value in values), "date")
        return cls(*values)

    return build


CALLS = {"_codecs.encode": Call(_latin1)}
CLASSES: dict[type, Builder] = {
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
}
