"""Settings that speed up training and inference on a CPU without changing results."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_mm.graft.swap import swap_class
from attn_mm.layers.ops.pooled_conv import FEW_POSITIONS

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

    ``Module.to(memory_format=...)`` would fail on the 5-D weights of 3D convolutions. The convolutions of
    :func:`_corrupts_memory` stay contiguous, and so does their input.
    """
    contiguous = [module for module in model.modules() if _corrupts_memory(module)]
    for conv in contiguous:
        conv.register_forward_pre_hook(_make_contiguous)
    kept = {id(parameter) for conv in contiguous for parameter in conv.parameters(recurse=False)}
    for parameter in model.parameters():
        if parameter.dim() == 4 and id(parameter) not in kept:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class TinyMapMixin(nn.Conv2d):
    """A convolution that computes small maps as one matrix product.

    oneDNN spends several times as long on changing the layout of the weights, forward and backward, as on the
    few pixels of a deep stage, a coarse pyramid level or a small flow.
    """

    prefix = "TinyMap"

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in input.shape[-2:])
        if input.dim() != 4 or not 0 < height * width <= FEW_POSITIONS:
            return super().forward(input)
        pixels = F.pad(input.movedim(1, 3), (0, 0, *[padding] * 4))
        down, right = stride * (height - 1) + 1, stride * (width - 1) + 1
        seen = [
            pixels[:, row : row + down : stride, column : column + right : stride]
            for row in range(kernel)
            for column in range(kernel)
        ]
        patches = torch.cat(seen, dim=3)
        weight = self.weight.movedim(1, 3).flatten(1)
        return F.linear(patches, weight, self.bias).movedim(3, 1)


def multiply_tiny_maps(model: nn.Module) -> None:
    """Let the 2D convolutions of a model compute small maps by :class:`TinyMapMixin`."""
    for module in list(model.modules()):
        if type(module) is nn.Conv2d and _is_simple(module):
            swap_class(module, TinyMapMixin)


def _is_simple(conv: nn.Conv2d) -> bool:
    square = all(len(set(sides)) == 1 for sides in (conv.kernel_size, conv.stride, conv.padding))
    plain = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == "zeros"
    return square and plain and not isinstance(conv.padding, str) and conv.kernel_size[0] <= 3


def _corrupts_memory(module: nn.Module) -> bool:
    """Whether oneDNN may write past the memory of this convolution's backward pass in that layout.

    oneDNN 3.10 (torch 2.11) copies the pixels that a strided 1x1 convolution reads to a buffer of (pixels x
    input channels), but starts each part of the pixels at a multiple of the vector's length instead of the
    channels (``jit_avx2_1x1_convolution.cpp`` and ``jit_avx512_common_1x1_convolution.cpp``, backward by
    weights). With fewer channels than a vector holds, 8 in AVX2 and 16 in AVX-512, it writes beyond the
    buffer: into another thread's part, which makes gradients wrong, or into memory of others. A transposed
    convolution is computed as one from its output to its input.
    """
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return False
    read = module.in_channels if isinstance(module, nn.Conv2d) else module.out_channels
    return module.kernel_size == (1, 1) and max(module.stride) > 1 and module.groups == 1 and read < 16


def _make_contiguous(conv: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # Not contiguous(), which returns a map of one channel as it is, with strides that mean channels_last.
    return (inputs[0].clone(memory_format=torch.contiguous_format), *inputs[1:])
