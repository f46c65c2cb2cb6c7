"""A convolution whose weights are scaled anew for every sample, as one implicit matrix product.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eq. 5. Where the scale does not vary over the input
channels, it multiplies the sum over them: each kernel position's product is scaled for
each sample and output channel and then added up, and no sample has weights of its own.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


def aw_conv(x: Tensor, weight: Tensor, s: Tensor, bias: Tensor | None, stride, padding, dilation) -> Tensor:
    """``x`` convolved with ``weight * s[n]`` for every sample n, plus ``bias``.

    The products are summed in float32 (float64 inputs: in float64) and rounded once.

    Args:
        x: ``(N, C1, H, W)``, channels first or last in memory.
        weight: ``(C2, C1, h, w)``; it is rounded to the type of ``x``.
        s: ``(N, C2, 1, h, w)``.
        bias: ``(C2,)`` or None.
        stride, padding, dilation: pairs of numbers.

    Returns:
        ``(N, C2, H', W')`` of the type of ``x``, in its memory format.
    """
    (batch, c_in, height, width), (c_out, _, *kernel) = x.shape, weight.shape
    size = [
        (n + 2 * p - d * (k - 1) - 1) // st + 1
        for n, k, st, p, d in zip((height, width), kernel, stride, padding, dilation)
    ]
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    y = torch.empty((batch, c_out, *size), dtype=x.dtype, device=x.device, memory_format=layout)
    rows = batch * size[0] * size[1]
    if y.numel() == 0:
        return y
    total = torch.float64 if x.dtype == torch.float64 else torch.float32
    block_rows, block_out = 64, min(128, max(16, triton.next_power_of_2(c_out)))
    grid = (triton.cdiv(rows, block_rows) * triton.cdiv(c_out, block_out),)
    _aw_conv[grid](
        x,
        weight.permute(2, 3, 1, 0).to(x.dtype).contiguous(),
        s.flatten(2).transpose(1, 2).to(total).contiguous(),
        y if bias is None else bias,
        y,
        rows,
        c_in,
        c_out,
        height,
        width,
        *size,
        *x.stride(),
        *y.stride(),
        *stride,
        *padding,
        *dilation,
        *kernel,
        HAS_BIAS=bias is not None,
        TOTAL=tl.float64 if total == torch.float64 else tl.float32,
        PRECISION="tf32" if _tf32_is_allowed() else "ieee",
        BLOCK_ROWS=block_rows,
        BLOCK_OUT=block_out,
        BLOCK_IN=min(32, max(16, triton.next_power_of_2(c_in))),
        num_warps=8 if block_out == 128 else 4,
    )
    return y


def _tf32_is_allowed() -> bool:
    """What holds for cuDNN's convolutions."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    # Newer torch refuses the older question once somebody has used the newer setting.
    precision = getattr(conv, "fp32_precision", None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == "tf32"


@triton.jit
def _aw_conv(
    x,
    weight,
    s,
    bias,
    y,
    rows,
    c_in,
    c_out,
    height,
    width,
    out_height,
    out_width,
    x_n,
    x_c,
    x_h,
    x_w,
    y_n,
    y_c,
    y_h,
    y_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TOTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
):
    """A tile of the output: rows are positions of all samples, columns output channels."""
    # Neighbours share their rows of the input, which is the larger operand.
    tiles_out = tl.cdiv(c_out, BLOCK_OUT)
    row = (tl.program_id(0) // tiles_out) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    out = (tl.program_id(0) % tiles_out) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    valid, wanted = row < rows, out < c_out
    n = row // (out_height * out_width)
    at = row % (out_height * out_width)
    out_h, out_w = at // out_width, at % out_width
    sample = n.to(tl.int64)

    total = tl.zeros((BLOCK_ROWS, BLOCK_OUT), dtype=TOTAL)
    for position in range(KERNEL_H * KERNEL_W):
        h = out_h * stride_h - pad_h + (position // KERNEL_W) * dilation_h
        w = out_w * stride_w - pad_w + (position % KERNEL_W) * dilation_w
        seen = valid & (h >= 0) & (h < height) & (w >= 0) & (w < width)
        x_at = x + sample * x_n + h * x_h + w * x_w
        weight_at = weight + position * c_in * c_out + out
        product = tl.zeros((BLOCK_ROWS, BLOCK_OUT), dtype=TOTAL)
        for first in range(0, c_in, BLOCK_IN):
            c = first + tl.arange(0, BLOCK_IN)
            there = c < c_in
            a = tl.load(x_at[:, None] + (c * x_c)[None, :], mask=seen[:, None] & there[None, :], other=0.0)
            b = tl.load(
                weight_at[None, :] + (c * c_out)[:, None], mask=there[:, None] & wanted[None, :], other=0.0
            )
            product = tl.dot(a, b, product, input_precision=PRECISION, out_dtype=TOTAL)
        scale_at = s + ((sample * (KERNEL_H * KERNEL_W) + position) * c_out)[:, None] + out[None, :]
        total += product * tl.load(scale_at, mask=valid[:, None] & wanted[None, :], other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + out, mask=wanted, other=0.0).to(TOTAL)[None, :]
    y_at = y + (sample * y_n + out_h * y_h + out_w * y_w)[:, None] + (out * y_c)[None, :]
    tl.store(y_at, total.to(y.dtype.element_ty), mask=valid[:, None] & wanted[None, :])
