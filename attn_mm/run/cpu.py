"""Settings that make training and inference on a CPU faster and change no result."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it to the kernel.

    Tensors above its mmap threshold (at most 32 MB) are otherwise mapped and
    page-faulted anew in every layer. Does nothing where the C library is another.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def prefer_channels_last(model: nn.Module) -> None:
    """Lay out every 2D convolution's weights as oneDNN's kernels like them.

    ``Module.to(memory_format=...)`` would fail on the 5-D weights of a 3D one.
    """
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
