"""Settings that speed up training and inference on a CPU without changing results."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import nn

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it to the kernel.

    Otherwise every layer maps and page-faults tensors above the mmap threshold (at most
    32 MB) again. Does nothing with other C libraries.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def prefer_channels_last(model: nn.Module) -> None:
    """Store the weights of every 2D convolution in the layout that oneDNN's kernels prefer.

    ``Module.to(memory_format=...)`` would fail on the 5-D weights of 3D convolutions. A network with a
    convolution of :func:`_corrupts_memory` keeps its layout.
    """
    if any(_corrupts_memory(module) for module in model.modules()):
        return
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _corrupts_memory(module: nn.Module) -> bool:
    """Whether oneDNN's backward pass of torch 2.11 writes past this convolution's memory in that layout.

    It does on AVX-512 for kernels of 1x1 with a stride, of at most 8 input and 16 output channels. The
    layout of the input decides as well as that of the weights, so the rest of the network has to follow.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels <= 8
        and module.out_channels <= 16
    )
