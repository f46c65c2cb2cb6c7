"""Deformable convolution, versions 1 (Dai et al., ICCV 2017) and 2 (Zhu et al., CVPR 2019).

mmcv and torchvision agree on every layout: input ``(B, C, H, W)``, offsets
``(B, G * kh * kw * 2, H', W')`` with y before x, masks ``(B, G * kh * kw, H', W')``.
``im2col_step`` only splits the batch, so it does not change the result.

torchvision's kernels differ from mmcv's in two points, in which this module follows mmcv:

* Version 2 takes offsets and masks that are larger than the output (DyHead and GLIP hand over those of
  a finer level). mmcv reads an image's offsets as flat memory, in the order in which it would read offsets
  of the output's size, and leaves the gradient of the rest at 0.
* A sampling point at exactly y = -1 or x = -1 reads nothing, so the gradient of its offset is 0.
  torchvision takes the one-sided derivative towards the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from attn_mm.compat.mmcv_ops.precision import promoted

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
]

_Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
# Both versions' keywords, in the order of torchvision's arguments.
_geometry_v1 = itemgetter("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_geometry_v2 = itemgetter(
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "dilation_h",
    "dilation_w",
    "group",
    "deformable_group",
)


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes
) -> None:
    """Write version 1's result into ``output``."""
    output.copy_(_forward(*_unmodulated(input, weight, offset), _geometry_v1(sizes), False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes,
) -> None:
    """Write version 1's gradients of the input and the offsets."""
    grads = _backward(grad_output, *_unmodulated(input, weight, offset), _geometry_v1(sizes), False)
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **sizes,
) -> None:
    """Write version 1's gradient of the weight, times ``scale``."""
    # The gradient does not depend on the weight, which mmcv does not hand over.
    arguments = _unmodulated(input, torch.zeros_like(grad_weight), offset)
    grads = _backward(grad_output, *arguments, _geometry_v1(sizes), False)
    grad_weight.copy_(grads[1] * scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes,
) -> None:
    """Write version 2's result into ``output``."""
    if not with_bias:
        bias = weight.new_zeros(len(weight))
    geometry = _geometry_v2(sizes)
    offset, mask = _as_read(offset, mask, weight, output, geometry)
    output.copy_(_forward(input, weight, offset, mask, bias, geometry, True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes,
) -> None:
    """Write version 2's gradients of all five arguments."""
    if not with_bias:
        bias = weight.new_zeros(len(weight))
    geometry = _geometry_v2(sizes)
    offset, mask = _as_read(offset, mask, weight, grad_output, geometry)
    grads = _backward(grad_output, input, weight, offset, mask, bias, geometry, True)
    grad_input.copy_(grads[0])
    grad_weight.copy_(grads[1])
    _write_front(grad_offset, grads[2])
    _write_front(grad_mask, grads[3])
    if with_bias:
        grad_bias.copy_(grads[4])


def _unmodulated(input: Tensor, weight: Tensor, offset: Tensor) -> _Five:
    """Version 2's arguments for version 1, which has neither mask nor bias."""
    return input, weight, offset, input.new_zeros(len(input), 1), weight.new_zeros(len(weight))


def _as_read(offset: Tensor, mask: Tensor, weight: Tensor, output: Tensor, geometry) -> tuple[Tensor, Tensor]:
    """Version 2's offsets and masks at the output's size, read as flat memory."""
    taps = geometry[-1] * weight[0, 0].numel()
    return _front("offsets", offset, 2 * taps, output), _front("masks", mask, taps, output)


def _front(name: str, values: Tensor, channels: int, output: Tensor) -> Tensor:
    """The first numbers of each image, as many as ``channels`` maps of the output's size hold.

    Raises:
        ValueError: If there are fewer. mmcv would read beyond the tensor.
    """
    shape = (channels, *output.shape[2:])
    memory = values.flatten(1)
    if memory.shape[1] < math.prod(shape):
        raise ValueError(
            f"deformable convolution: {name} of shape {tuple(values.shape[1:])} are too few for an output "
            f"of {tuple(output.shape[2:])}, which needs {shape}"
        )
    return memory[:, : math.prod(shape)].reshape(-1, *shape)


def _write_front(target: Tensor, values: Tensor) -> None:
    """Write what :func:`_front` read, and 0 to the rest."""
    memory = target.new_zeros(target.shape).flatten(1)
    memory[:, : values[0].numel()] = values.flatten(1)
    target.copy_(memory.view(target.shape))


def _forward(input, weight, offset, mask, bias, geometry, use_mask) -> Tensor:
    tensors = promoted(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*tensors, *geometry, use_mask)


def _backward(grad_output, input, weight, offset, mask, bias, geometry, use_mask) -> _Five:
    """Gradients of input, weight, offset, mask and bias."""
    tensors = promoted(grad_output, input, weight, offset, mask, bias)
    grads = torch.ops.torchvision._deform_conv2d_backward(*tensors, *geometry, use_mask)
    outside = _before_the_image(tensors[3], weight.shape[2:], geometry)
    return grads[0], grads[1], grads[2].masked_fill(outside, 0), grads[3], grads[4]


def _before_the_image(offset: Tensor, kernel: Sequence[int], geometry) -> Tensor:
    """Which offsets, in their shape, belong to sampling points at y <= -1 or x <= -1."""

    def places(axis: int) -> Tensor:
        """Where the kernel's taps lie without offsets along one axis: (kernel, output)."""
        stride, padding, dilation = geometry[axis], geometry[2 + axis], geometry[4 + axis]
        starts = torch.arange(offset.shape[2 + axis], device=offset.device) * stride - padding
        return torch.arange(kernel[axis], device=offset.device)[:, None] * dilation + starts

    # (B, groups, kernel height, kernel width, y and x, output's height, output's width)
    shifts = offset.unflatten(1, (-1, *kernel, 2))
    y = shifts.select(4, 0) + places(0)[:, None, :, None]
    x = shifts.select(4, 1) + places(1)[:, None, :]
    return ((y <= -1) | (x <= -1)).unsqueeze(4).expand_as(shifts).reshape(offset.shape)
