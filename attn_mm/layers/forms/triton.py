"""Check whether the Triton kernels of this package can run on a device.

The kernels are in ``aw_triton`` and ``tam_triton``. These modules import Triton, so they are imported only
when a kernel first runs.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

# Oldest compute capability that Triton's compiler supports.
_OLDEST = (7, 0)


@cache
def _runs_on(device: torch.device) -> bool:
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= _OLDEST


def usable(x: Tensor) -> bool:
    """Whether Triton kernels can run on the device of ``x``."""
    return x.device.type == "cuda" and _runs_on(x.device)
