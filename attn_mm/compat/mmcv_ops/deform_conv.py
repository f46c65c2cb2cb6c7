"""Deformable convolution, versions 1 (Dai et al., ICCV 2017) and 2 (Zhu et al., CVPR 2019).

mmcv and torchvision agree on every layout: input ``(B, C, H, W)``, offsets
``(B, G * kh * kw * 2, H', W')`` with y before x, masks ``(B, G * kh * kw, H', W')``.
``im2col_step`` only splits the batch, so it does not change the result.
"""

from __future__ import annotations

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
    output.copy_(_forward(input, weight, offset, mask, bias, _geometry_v2(sizes), True))


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
    grads = _backward(grad_output, input, weight, offset, mask, bias, _geometry_v2(sizes), True)
    grad_input.copy_(grads[0])
    grad_weight.copy_(grads[1])
    grad_offset.copy_(grads[2])
    grad_mask.copy_(grads[3])
    if with_bias:
        grad_bias.copy_(grads[4])


def _unmodulated(input: Tensor, weight: Tensor, offset: Tensor) -> _Five:
    """Version 2's arguments for version 1, which has neither mask nor bias."""
    return input, weight, offset, input.new_zeros(len(input), 1), weight.new_zeros(len(weight))


def _forward(input, weight, offset, mask, bias, geometry, use_mask) -> Tensor:
    tensors = promoted(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*tensors, *geometry, use_mask)


def _backward(grad_output, input, weight, offset, mask, bias, geometry, use_mask) -> _Five:
    """Gradients of input, weight, offset, mask and bias."""
    tensors = promoted(grad_output, input, weight, offset, mask, bias)
    return torch.ops.torchvision._deform_conv2d_backward(*tensors, *geometry, use_mask)
