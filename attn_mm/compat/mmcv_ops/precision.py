"""The number type in which the stand-in ops compute."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast tensors to their common type, at least float32.

    torchvision's kernels want one type for all arguments, and have none for
    bfloat16 (nor, on CPU, for float16), which mixed precision hands to the ops.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)
