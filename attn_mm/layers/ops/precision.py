"""The types that a layer's own operations take, beside those that autocast gives torch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

# Asked here because Dynamo can't trace the question; of MPS the answer depends on torch's version.
_WITHOUT_AUTOCAST = {device for device in ("meta", "mps") if not torch.amp.is_autocast_available(device)}


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    return device not in _WITHOUT_AUTOCAST and torch.is_autocast_enabled(device)


def result_type(x: Tensor) -> torch.dtype:
    """The type of a convolution's output for ``x``; autocast leaves float64 alone."""
    if x.dtype != torch.float64 and _autocasts(x):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def wide_type(x: Tensor) -> torch.dtype:
    """The type for sums over ``x``: half precision would lose or overflow them."""
    return torch.promote_types(x.dtype, torch.float32)


def no_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which operations on tensors of ``x``'s device keep their types."""
    return torch.autocast(x.device.type, enabled=False) if _autocasts(x) else nullcontext()


@contextmanager
def without_cached_casts() -> Iterator[None]:
    """Within this context autocast casts weights anew each time: it keeps no casts."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
