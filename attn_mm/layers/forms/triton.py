"""Kernels in Triton for CUDA devices. What computes the same elsewhere is with the layers.

The kernels' files import Triton, and are themselves imported where a kernel first runs.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

# Triton's compiler supports no older devices.
_OLDEST = (7, 0)


@cache
def _runs_on(device: torch.device) -> bool:
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= _OLDEST


def usable(x: Tensor) -> bool:
    """Whether kernels run on the device of ``x``."""
    return x.device.type == "cuda" and _runs_on(x.device)
