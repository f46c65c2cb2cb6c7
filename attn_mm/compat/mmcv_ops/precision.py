"""The number type in which the operators compute."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast tensors to their common type, at least float32.

    torchvision's kernels need one type for all arguments. They don't support
    bfloat16 (nor, on CPU, float16), which mixed precision uses.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)
