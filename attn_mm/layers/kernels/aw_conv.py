"""A convolution whose weights are scaled anew for every sample, as implicit matrix products.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eq. 5. With K the weights, s the scale, k a position of the
kernel and M_nk the sum over all places of grad y times what k sees of x there,

    y       = sum_k s_nk (K_k x_k)              grad K_k  = sum_n s_nk M_nk
    grad x  = sum_k K_k^T (s_nk grad y)_-k      grad s_nk = sum over the input channels of K_k M_nk

so that no sample has weights of its own, forward or backward. A program's tile lies in one
sample, for which s is one number an output channel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Loads in flight at once.
_STAGES = 3
# Programs that keep a large device busy.
_PROGRAMS = 512


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
    c_out, c_in = weight.shape[:2]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // st + 1
        for n, k, st, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    ]
    y = _empty(x, c_out, size)
    if y.numel() == 0:
        return y
    rows, columns, deep = _tile(x, y[0, 0].numel(), c_out, c_in)
    grid = (len(x) * triton.cdiv(y[0, 0].numel(), rows) * triton.cdiv(c_out, columns),)
    _forward[grid](
        x,
        weight.permute(2, 3, 1, 0).to(x.dtype).contiguous(),
        _positions_first(s, x),
        y if bias is None else bias,
        y,
        *(c_in, c_out, *x.shape[2:], *size),
        *(*x.stride(), *y.stride()),
        **_constants(x, weight, stride, padding, dilation),
        HAS_BIAS=bias is not None,
        **dict(ROWS=rows, COLUMNS=columns, DEEP=deep),
        **_resources(rows, columns),
    )
    return y


def aw_conv_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, s: Tensor, stride, padding, dilation, wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``x``, ``weight`` and ``s`` of :func:`aw_conv`, those that are ``wanted``, else None.

    Args:
        grad: that of the output, ``(N, C2, H', W')``.
        x, weight, s, stride, padding, dilation: those of :func:`aw_conv`.
        wanted: three booleans.
    """
    for_x, for_weight, for_s = wanted
    grad_x = _grad_x(grad, x, weight, s, stride, padding, dilation) if for_x else None
    grad_weight = grad_s = None
    if for_weight or for_s:
        grad_weight, grad_s = _grad_weight_and_s(grad, x, weight, s, stride, padding, dilation)
    return grad_x, grad_weight if for_weight else None, grad_s if for_s else None


def _grad_x(grad, x, weight, s, stride, padding, dilation) -> Tensor:
    grad_x = _empty(x, x.shape[1], x.shape[2:])
    if grad_x.numel() == 0:
        return grad_x
    c_out, c_in = weight.shape[:2]
    rows, columns, deep = _tile(x, x[0, 0].numel(), c_in, c_out)
    grid = (len(x) * triton.cdiv(x[0, 0].numel(), rows) * triton.cdiv(c_in, columns),)
    _backward_x[grid](
        grad,
        weight.permute(2, 3, 0, 1).to(x.dtype).contiguous(),
        _positions_first(s, x),
        grad_x,
        *(c_in, c_out, *x.shape[2:], *grad.shape[2:]),
        *(*grad_x.stride(), *grad.stride()),
        **_constants(x, weight, stride, padding, dilation),
        **dict(ROWS=rows, COLUMNS=columns, DEEP=deep),
        **_resources(rows, columns),
    )
    return grad_x


def _grad_weight_and_s(grad, x, weight, s, stride, padding, dilation) -> tuple[Tensor, Tensor]:
    batch, (c_out, c_in), positions = len(x), weight.shape[:2], weight[0, 0].numel()
    if grad.numel() == 0:
        return torch.zeros_like(weight), torch.zeros_like(s)
    rows, columns, deep = _tile(x, c_out, c_in, grad[0, 0].numel())
    tiles_in = triton.cdiv(c_in, columns)
    tiles = triton.cdiv(c_out, rows) * tiles_in * positions
    samples = triton.cdiv(batch, min(batch, triton.cdiv(_PROGRAMS, tiles)))
    parts = triton.cdiv(batch, samples)
    total = _total(x)
    # A part of the samples and a part of the input channels each.
    grad_weight = torch.empty((parts, positions, c_out, c_in), dtype=total, device=x.device)
    grad_s = torch.empty((tiles_in, batch, positions, c_out), dtype=total, device=x.device)
    _backward_weight_and_s[(tiles * parts,)](
        grad,
        x,
        weight.permute(2, 3, 0, 1).contiguous(),
        _positions_first(s, x),
        grad_weight,
        grad_s,
        *(batch, samples, c_in, c_out, *x.shape[2:], *grad.shape[2:]),
        *(*x.stride(), *grad.stride()),
        **_constants(x, weight, stride, padding, dilation),
        **dict(ROWS=rows, COLUMNS=columns, DEEP=deep),
        **_resources(rows, columns),
    )
    grad_weight = grad_weight.sum(0).permute(1, 2, 0).reshape(weight.shape).to(weight.dtype)
    return grad_weight, grad_s.sum(0).transpose(1, 2).reshape(s.shape).to(s.dtype)


def _empty(x: Tensor, channels: int, size) -> Tensor:
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty((len(x), channels, *size), dtype=x.dtype, device=x.device, memory_format=layout)


def _total(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _positions_first(s: Tensor, x: Tensor) -> Tensor:
    """``(N, C2, 1, h, w)`` as ``(N, h * w, C2)``."""
    return s.flatten(2).transpose(1, 2).to(_total(x)).contiguous()


def _tile(x: Tensor, rows: int, columns: int, deep: int) -> tuple[int, int, int]:
    """Sizes of a program's tile and of its steps along the sum."""

    def power(n: int, most: int) -> int:
        return min(most, max(16, triton.next_power_of_2(n)))

    rows, columns = power(rows, 128), power(columns, 128)
    memory = 2**16
    if x.is_cuda:
        memory = torch.cuda.get_device_properties(x.device).shared_memory_per_block_optin
    fits = memory // (_STAGES * (rows + columns) * x.element_size())
    return rows, columns, power(deep, max(16, min(64, 1 << (fits.bit_length() - 1))))


def _resources(rows: int, columns: int) -> dict[str, int]:
    return dict(num_warps=8 if rows * columns >= 2**14 else 4, num_stages=_STAGES)


def _constants(x: Tensor, weight: Tensor, stride, padding, dilation) -> dict:
    names = ("STRIDE", "PAD", "DILATION", "KERNEL")
    pairs = zip(names, (stride, padding, dilation, weight.shape[2:]))
    return {
        **{f"{name}_{dim}": n for name, pair in pairs for dim, n in zip("HW", pair)},
        "TOTAL": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "PRECISION": "tf32" if _tf32_is_allowed() else "ieee",
    }


def _tf32_is_allowed() -> bool:
    """What holds for cuDNN's convolutions."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    # Newer torch refuses the older question once somebody has used the newer setting.
    precision = getattr(conv, "fp32_precision", None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == "tf32"


@triton.jit
def _forward(
    x,
    weight,
    s,
    bias,
    y,
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
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    TOTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """A tile of the output: rows are places of a sample, columns output channels."""
    # Neighbours share what they see of the input, which is the larger operand.
    tiles_out = tl.cdiv(c_out, COLUMNS)
    tiles_rows = tl.cdiv(out_height * out_width, ROWS)
    tile = tl.program_id(0) // tiles_out
    n = (tile // tiles_rows).to(tl.int64)
    row = (tile % tiles_rows) * ROWS + tl.arange(0, ROWS)
    out = (tl.program_id(0) % tiles_out) * COLUMNS + tl.arange(0, COLUMNS)
    valid, wanted = row < out_height * out_width, out < c_out
    out_h, out_w = row // out_width, row % out_width
    x += n * x_n
    s += n * (KERNEL_H * KERNEL_W) * c_out

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    for position in range(KERNEL_H * KERNEL_W):
        h = out_h * STRIDE_H - PAD_H + (position // KERNEL_W) * DILATION_H
        w = out_w * STRIDE_W - PAD_W + (position % KERNEL_W) * DILATION_W
        seen = valid & (h >= 0) & (h < height) & (w >= 0) & (w < width)
        x_at = x + h * x_h + w * x_w
        weight_at = weight + position * c_in * c_out + out
        product = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
        for first in range(0, c_in, DEEP):
            c = first + tl.arange(0, DEEP)
            there = c < c_in
            a = tl.load(x_at[:, None] + (c * x_c)[None, :], mask=seen[:, None] & there[None, :], other=0.0)
            b = tl.load(
                weight_at[None, :] + (c * c_out)[:, None], mask=there[:, None] & wanted[None, :], other=0.0
            )
            product = tl.dot(a, b, product, input_precision=PRECISION, out_dtype=TOTAL)
        total += product * tl.load(s + position * c_out + out, mask=wanted, other=0.0)[None, :]
    if HAS_BIAS:
        total += tl.load(bias + out, mask=wanted, other=0.0).to(TOTAL)[None, :]
    y_at = y + n * y_n + (out_h * y_h + out_w * y_w)[:, None] + (out * y_c)[None, :]
    tl.store(y_at, total.to(y.dtype.element_ty), mask=valid[:, None] & wanted[None, :])


@triton.jit
def _backward_x(
    grad,
    weight,
    s,
    grad_x,
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
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    TOTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """A tile of the input's gradient: rows are places of a sample, columns input channels."""
    tiles_in = tl.cdiv(c_in, COLUMNS)
    tiles_rows = tl.cdiv(height * width, ROWS)
    tile = tl.program_id(0) // tiles_in
    n = (tile // tiles_rows).to(tl.int64)
    row = (tile % tiles_rows) * ROWS + tl.arange(0, ROWS)
    into = (tl.program_id(0) % tiles_in) * COLUMNS + tl.arange(0, COLUMNS)
    valid, wanted = row < height * width, into < c_in
    h, w = row // width, row % width
    grad += n * y_n
    s += n * (KERNEL_H * KERNEL_W) * c_out

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    for position in range(KERNEL_H * KERNEL_W):
        # Where this position of the kernel lies on the input's place, if a stride leads there.
        by_h = h + PAD_H - (position // KERNEL_W) * DILATION_H
        by_w = w + PAD_W - (position % KERNEL_W) * DILATION_W
        out_h, out_w = by_h // STRIDE_H, by_w // STRIDE_W
        seen = valid & (by_h >= 0) & (out_h < out_height) & (by_w >= 0) & (out_w < out_width)
        seen = seen & (out_h * STRIDE_H == by_h) & (out_w * STRIDE_W == by_w)
        grad_at = grad + out_h * y_h + out_w * y_w
        weight_at = weight + position * c_out * c_in + into
        for first in range(0, c_out, DEEP):
            c = first + tl.arange(0, DEEP)
            there = c < c_out
            a = tl.load(grad_at[:, None] + (c * y_c)[None, :], mask=seen[:, None] & there[None, :], other=0.0)
            b = tl.load(
                weight_at[None, :] + (c * c_in)[:, None], mask=there[:, None] & wanted[None, :], other=0.0
            )
            scale = tl.load(s + position * c_out + c, mask=there, other=0.0)
            b = (b.to(TOTAL) * scale[:, None]).to(weight.dtype.element_ty)
            total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=TOTAL)
    x_at = grad_x + n * x_n + (h * x_h + w * x_w)[:, None] + (into * x_c)[None, :]
    tl.store(x_at, total.to(grad_x.dtype.element_ty), mask=valid[:, None] & wanted[None, :])


@triton.jit
def _backward_weight_and_s(
    grad,
    x,
    weight,
    s,
    grad_weight,
    grad_s,
    batch,
    samples,
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
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DILATION_H: tl.constexpr,
    DILATION_W: tl.constexpr,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    TOTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """For ``samples`` samples and one position of the kernel, output channels by input channels."""
    tiles_out, tiles_in = tl.cdiv(c_out, ROWS), tl.cdiv(c_in, COLUMNS)
    tile_in = tl.program_id(0) % tiles_in
    rest = tl.program_id(0) // tiles_in
    position = (rest // tiles_out) % (KERNEL_H * KERNEL_W)
    part = rest // (tiles_out * KERNEL_H * KERNEL_W)
    out = (rest % tiles_out) * ROWS + tl.arange(0, ROWS)
    into = tile_in * COLUMNS + tl.arange(0, COLUMNS)
    valid, wanted = out < c_out, into < c_in
    inside = valid[:, None] & wanted[None, :]
    at = (position * c_out + out)[:, None] * c_in + into[None, :]
    own = tl.load(weight + at, mask=inside, other=0.0).to(TOTAL)

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    first_sample = part * samples
    for sample in range(first_sample, tl.minimum(first_sample + samples, batch)):
        n = tl.cast(sample, tl.int64)
        product = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
        for first in range(0, out_height * out_width, DEEP):
            place = first + tl.arange(0, DEEP)
            there = place < out_height * out_width
            out_h, out_w = place // out_width, place % out_width
            h = out_h * STRIDE_H - PAD_H + (position // KERNEL_W) * DILATION_H
            w = out_w * STRIDE_W - PAD_W + (position % KERNEL_W) * DILATION_W
            seen = there & (h >= 0) & (h < height) & (w >= 0) & (w < width)
            a = tl.load(
                grad + n * y_n + (out * y_c)[:, None] + (out_h * y_h + out_w * y_w)[None, :],
                mask=valid[:, None] & there[None, :],
                other=0.0,
            )
            b = tl.load(
                x + n * x_n + (h * x_h + w * x_w)[:, None] + (into * x_c)[None, :],
                mask=seen[:, None] & wanted[None, :],
                other=0.0,
            )
            product = tl.dot(a, b, product, input_precision=PRECISION, out_dtype=TOTAL)
        s_at = (n * (KERNEL_H * KERNEL_W) + position) * c_out + out
        total += product * tl.load(s + s_at, mask=valid, other=0.0)[:, None]
        of_tile = tl.cast(tile_in, tl.int64) * batch * (KERNEL_H * KERNEL_W) * c_out
        tl.store(grad_s + of_tile + s_at, tl.sum(product * own, axis=1), mask=valid)
    of_part = tl.cast(part, tl.int64) * (KERNEL_H * KERNEL_W) * c_out * c_in
    tl.store(grad_weight + of_part + at, total, mask=inside)
