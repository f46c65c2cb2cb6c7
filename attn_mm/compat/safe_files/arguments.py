"""Check the arguments of what a pickle calls."""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from attn_mm.compat.safe_files.budget import Budget, Refused


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


Builder = Callable[..., Any]
"""Builds a value from a reader and the arguments of a call."""
Setter = Callable[[Any, Any, Reader], None]
"""Sets the state of an object: the object, the state, the reader."""


class StorageKind(NamedTuple):
    """The type of a storage: data only. Storages come from persistent ids alone."""

    dtype: torch.dtype


class Call(NamedTuple):
    """A name that may be called, in place of the function that it means elsewhere."""

    build: Builder


def expect(condition: Any, what: str) -> None:
    """Raise Refused unless ``condition`` holds: ``what`` is not as torch, NumPy or Python write it."""
    if not condition:
        raise Refused(f"its {what} is malformed")


def is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def are_sizes(values: Any) -> bool:
    return isinstance(values, (tuple, list)) and len(values) <= 64 and all(map(is_size, values))


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
            raise Refused(f"a key in it is a {type(value).__name__}, which is not allowed there")


def as_bytes(data: Any) -> bytes:
    # Python 2 wrote bytes as text.
    return data.encode("latin1") if type(data) is str else data
