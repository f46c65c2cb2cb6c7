"""Layers and operations by the number of spatial dimensions: 2 for images, 3 for video."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_DECONV: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def check_dims(dims: int) -> None:
    """Raise ValueError unless ``dims`` is 2 or 3; the functions below that take ``dims`` do so too."""
    if dims not in (2, 3):
        raise ValueError(f"dims must be 2 or 3, got {dims!r}")


def conv_class(dims: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    """The convolution class for ``dims`` spatial dimensions."""
    check_dims(dims)
    return _CONV[dims]


def deconv_class(dims: int) -> type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]:
    """The transposed convolution class for ``dims`` spatial dimensions."""
    check_dims(dims)
    return _DECONV[dims]


def norm_class(dims: int) -> type[nn.BatchNorm2d] | type[nn.BatchNorm3d]:
    """The batch norm class for ``dims`` spatial dimensions."""
    check_dims(dims)
    return _NORM[dims]


def convolve(x: Tensor, weight: Tensor, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
    """Apply ``F.conv2d`` or ``F.conv3d``, depending on the dimensions of ``x`` ``(N, C, *size)``."""
    conv = {4: F.conv2d, 5: F.conv3d}[x.dim()]
    return conv(x, weight, bias, stride, padding, dilation, groups)


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Reshape ``(C,)`` or ``(N, C)`` so that it broadcasts over ``x``, ``(N, C, *size)``."""
    index = (..., *[None] * (x.dim() - 2))
    return values[index]
