"""Data types of the layers' own operations, which autocast doesn't cover."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

# Evaluated at import because Dynamo can't trace the call; for MPS the answer depends on torch's version.
_WITHOUT_AUTOCAST = {device for device in ("meta", "mps") if not torch.amp.is_autocast_available(device)}


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    return device not in _WITHOUT_AUTOCAST and torch.is_autocast_enabled(device)


def result_type(x: Tensor) -> torch.dtype:
    """The data type of a convolution's output for input ``x``; autocast doesn't change float64."""
    if x.dtype != torch.float64 and _autocasts(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def wide_type(x: Tensor) -> torch.dtype:
    """The data type for sums over ``x``: float32 or wider, because half precision rounds or overflows."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(x: Tensor) -> AbstractContextManager:
    """A context without autocast on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False) if _autocasts(x) else nullcontext()


@contextmanager
def without_cached_casts() -> Iterator[None]:
    """In this context autocast doesn't cache casts of weights."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
