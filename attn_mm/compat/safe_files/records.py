"""Build records, whose state is set after they are built."""

from __future__ import annotations

import argparse
import collections
from typing import Any

from attn_mm.compat.safe_files.arguments import Builder, Reader, Setter, expect


def new_record(cls: type) -> Builder:
    """The builder of a ``cls`` without state, which a pickle sets afterwards."""

    def build(reader: Reader) -> Any:
        reader.budget.take_objects(400)
        return object.__new__(cls)

    return build


def is_name(key: Any) -> bool:
    """Whether ``key`` is the name of an attribute that state may set."""
    return type(key) is str and not key.startswith("__")


def _fields(record: Any, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and all(map(is_name, state)), f"{type(record).__name__}")
    reader.budget.take_objects(100 * len(state))
    record.__dict__.update(state)


def _ordered_state(record: collections.OrderedDict, state: Any, reader: Reader) -> None:
    expect(type(state) is dict and state.keys() <= {"_metadata"}, "OrderedDict")
    expect(isinstance(state.get("_metadata", {}), dict), "OrderedDict")
    record.__dict__.update(state)


CLASSES: dict[type, Builder] = {argparse.Namespace: new_record(argparse.Namespace)}
STATES: dict[type, Setter] = {collections.OrderedDict: _ordered_state, argparse.Namespace: _fields}
