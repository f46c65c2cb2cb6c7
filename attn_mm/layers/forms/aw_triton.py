"""Triton kernels of a convolution whose weights are scaled for each sample: implicit matrix products.

Zhu et al., An Attention Module for Convolutional Neural Networks, ICANN 2021
(https://arxiv.org/abs/2108.08205), eq. 5. K are the weights, s the scale, k a position of the
kernel, and M_nk the sum over all places of grad y times what k sees of x there:

    y       = sum_k s_nk (K_k x_k)              grad K_k  = sum_n s_nk M_nk
    grad x  = sum_k K_k^T (s_nk grad y)_-k      grad s_nk = sum over the input channels of K_k M_nk

Neither pass needs weights per sample. A program's tile belongs to one sample, so that s is
one number per output channel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Pipeline stages (loads in flight). This and the tiles and warps below were fastest of several on an H200.
_STAGES = 3
_FORWARD = dict(rows=64, columns=128, warps=4)
_BACKWARD_X = dict(rows=128, columns=128, warps=4)
_BACKWARD_WEIGHT = dict(rows=128, columns=128, warps=8)
# Number of programs that keeps a large device busy.
_PROGRAMS = 512


def aw_conv(x: Tensor, weight: Tensor, s: Tensor, bias: Tensor | None, stride, padding, dilation) -> Tensor:
    """Convolve each sample n of ``x`` with ``weight * s[n]``, and add ``bias``.

    The products are summed in float32 (float64 for float64 inputs) and rounded once.

    Args:
        x: ``(N, C1, H, W)``; not copied if it is channels last in memory.
        weight: ``(C2, C1, h, w)``; rounded to the type of ``x``.
        s: ``(N, C2, 1, h, w)``.
        bias: ``(C2,)`` or None.
        stride, padding, dilation: pairs of numbers.

    Returns:
        ``(N, C2, H', W')`` in the type and memory format of ``x``.
    """
    c_out, c_in = weight.shape[:2]
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // st + 1
        for n, k, st, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    )
    y = _empty(x, len(x), c_out, height, width)
    if y.numel():
        tile = _tile(x, height * width, c_out, c_in, **_FORWARD)
        grid = (len(x) * triton.cdiv(height * width, tile["ROWS"]) * triton.cdiv(c_out, tile["COLUMNS"]),)
        _forward[grid](
            _channels_last(x),
            _channels_last(weight.to(x.dtype)),
            s.to(_total(x)).contiguous(),
            y if bias is None else bias,
            y,
            *(c_in, c_out, *x.shape[2:], height, width),
            **_constants(x, weight, stride, padding, dilation),
            HAS_BIAS=bias is not None,
            **tile,
        )
    return _laid_out_as(x, y)


def aw_conv_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, s: Tensor, stride, padding, dilation, wanted
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of ``x``, ``weight`` and ``s`` of :func:`aw_conv`.

    Args:
        grad: gradient of the output, ``(N, C2, H', W')``.
        x, weight, s, stride, padding, dilation: those of :func:`aw_conv`.
        wanted: three booleans, one for each gradient.

    Returns:
        The three gradients; None for those not ``wanted``.
    """
    for_x, for_weight, for_s = wanted
    grad = _channels_last(grad)
    operands = grad, x, _channels_last(weight), s.to(_total(x)).contiguous()
    constants = _constants(x, weight, stride, padding, dilation)
    grad_x = _laid_out_as(x, _grad_x(*operands, constants)) if for_x else None
    grad_weight = grad_s = None
    if for_weight or for_s:
        grad_weight, grad_s = _grad_weight_and_s(*operands, constants)
    return grad_x, grad_weight if for_weight else None, grad_s if for_s else None


def _grad_x(grad, x, weight, s, constants) -> Tensor:
    grad_x = _empty(x, *x.shape)
    if grad_x.numel():
        c_out, c_in = weight.shape[:2]
        classes, places = 1, 1
        for dim, n in zip("HW", x.shape[2:]):
            step = constants[f"STRIDE_{dim}"] if constants[f"DILATION_{dim}"] == 1 else 1
            classes, places = classes * step, places * triton.cdiv(n, step)
        tile = _tile(x, places, c_in, c_out, **_BACKWARD_X)
        grid = (len(x) * classes * triton.cdiv(places, tile["ROWS"]) * triton.cdiv(c_in, tile["COLUMNS"]),)
        _backward_x[grid](
            grad,
            weight.to(x.dtype),
            s,
            grad_x,
            *(c_in, c_out, *x.shape[2:], *grad.shape[2:]),
            **constants,
            **tile,
        )
    return grad_x


def _grad_weight_and_s(grad, x, weight, s, constants) -> tuple[Tensor, Tensor]:
    batch, (c_out, c_in), positions = len(x), weight.shape[:2], weight[0, 0].numel()
    if grad.numel() == 0:
        return torch.zeros_like(weight), torch.zeros_like(s)
    places = grad[0, 0].numel()
    tile = _tile(x, c_out, c_in, places, **_BACKWARD_WEIGHT)
    tiles_in = triton.cdiv(c_in, tile["COLUMNS"])
    tiles = triton.cdiv(c_out, tile["ROWS"]) * tiles_in * positions
    samples = triton.cdiv(batch, min(batch, triton.cdiv(_PROGRAMS, tiles)))
    parts = triton.cdiv(batch, samples)
    # Partial results: grad_weight per part of the samples, grad_s per tile of the input channels.
    grad_weight = s.new_empty((parts, c_out, *weight.shape[2:], c_in))
    grad_s = s.new_empty((tiles_in, *s.shape))
    _backward_weight_and_s[(tiles * parts,)](
        grad,
        _channels_last(x),
        weight,
        s,
        grad_weight,
        grad_s,
        *(batch, samples, c_in, c_out, *x.shape[2:], *grad.shape[2:]),
        **constants,
        ONE_STEP=places <= tile["DEEP"],
        **tile,
    )
    return grad_weight.sum(0).permute(0, 3, 1, 2).to(weight.dtype), grad_s.sum(0)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _laid_out_as(x: Tensor, y: Tensor) -> Tensor:
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return y if last else y.contiguous()


def _total(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _tile(x: Tensor, m: int, n: int, k: int, rows: int, columns: int, warps: int) -> dict[str, int]:
    """A program's tile of an ``m`` by ``n`` product, its step along the ``k`` terms, and its resources."""

    def power(n: int, most: int) -> int:
        return min(most, max(16, triton.next_power_of_2(n)))

    rows, columns = power(m, rows), power(n, columns)
    memory = 2**16
    if x.is_cuda:
        properties = torch.cuda.get_device_properties(x.device)
        memory = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    fits = memory // (_STAGES * (rows + columns) * x.element_size())
    deep = power(k, max(16, min(64, 1 << (fits.bit_length() - 1))))
    return dict(ROWS=rows, COLUMNS=columns, DEEP=deep, num_warps=warps, num_stages=_STAGES)


def _constants(x: Tensor, weight: Tensor, stride, padding, dilation) -> dict:
    names = ("STRIDE", "PAD", "DILATION", "KERNEL")
    pairs = zip(names, (stride, padding, dilation, weight.shape[2:]))
    return {
        **{f"{name}_{dim}": n for name, pair in pairs for dim, n in zip("HW", pair)},
        "TOTAL": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "PRECISION": "tf32" if _tf32_is_allowed() else "ieee",
    }


def _tf32_is_allowed() -> bool:
    """Whether torch's settings allow TF32 for cuDNN's convolutions."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    # Newer torch raises an error for allow_tf32 once the newer setting has been used.
    precision = getattr(conv, "fp32_precision", None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == "tf32"


# All maps and weights are channels last: (N, H, W, C) and (C2, h, w, C1); s is (N, C2, h, w).


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
    """Compute a tile of the output: rows are places of a sample, columns are output channels."""
    POSITIONS: tl.constexpr = KERNEL_H * KERNEL_W
    places = out_height * out_width
    # Neighbouring programs read the same part of the input, the larger operand.
    tiles_out = tl.cdiv(c_out, COLUMNS)
    tiles_rows = tl.cdiv(places, ROWS)
    tile = tl.program_id(0) // tiles_out
    n = (tile // tiles_rows).to(tl.int64)
    row = (tile % tiles_rows) * ROWS + tl.arange(0, ROWS)
    out = (tl.program_id(0) % tiles_out) * COLUMNS + tl.arange(0, COLUMNS)
    valid, wanted = row < places, out < c_out
    first_h = row // out_width * STRIDE_H - PAD_H
    first_w = row % out_width * STRIDE_W - PAD_W
    x += n * height * width * c_in
    s_at = s + (n * c_out + out) * POSITIONS
    weight_at = weight + out * (POSITIONS * c_in)

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    deep = tl.cdiv(c_in, DEEP)
    # One loop instead of two lets loads run ahead over the kernel's positions.
    for step in range(POSITIONS * deep):
        position = step // deep
        c = (step % deep) * DEEP + tl.arange(0, DEEP)
        there = c < c_in
        h = first_h + position // KERNEL_W * DILATION_H
        w = first_w + position % KERNEL_W * DILATION_W
        seen = valid & (h >= 0) & (h < height) & (w >= 0) & (w < width)
        a_at = x + ((h * width + w) * c_in)[:, None] + c[None, :]
        b_at = weight_at[None, :] + (position * c_in + c)[:, None]
        a = tl.load(a_at, mask=seen[:, None] & there[None, :], other=0.0)
        b = tl.load(b_at, mask=there[:, None] & wanted[None, :], other=0.0)
        scale = tl.load(s_at + position, mask=wanted, other=0.0)
        total += tl.dot(a, b, input_precision=PRECISION, out_dtype=TOTAL) * scale[None, :]
    if HAS_BIAS:
        total += tl.load(bias + out, mask=wanted, other=0.0).to(TOTAL)[None, :]
    y_at = y + ((n * places + row) * c_out)[:, None] + out[None, :]
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
    """Compute a tile of the input's gradient: rows are places of a sample, columns are input channels."""
    # Only every STEP-th kernel position reaches a place, so places STEP apart are grouped into one class.
    STEP_H: tl.constexpr = STRIDE_H if DILATION_H == 1 else 1
    STEP_W: tl.constexpr = STRIDE_W if DILATION_W == 1 else 1
    POSITIONS: tl.constexpr = KERNEL_H * KERNEL_W
    tiles_in = tl.cdiv(c_in, COLUMNS)
    tiles_rows = tl.cdiv(tl.cdiv(height, STEP_H) * tl.cdiv(width, STEP_W), ROWS)
    into = (tl.program_id(0) % tiles_in) * COLUMNS + tl.arange(0, COLUMNS)
    tile = tl.program_id(0) // tiles_in
    row = (tile % tiles_rows) * ROWS + tl.arange(0, ROWS)
    class_h = tile // tiles_rows % STEP_H
    class_w = tile // (tiles_rows * STEP_H) % STEP_W
    n = (tile // (tiles_rows * STEP_H * STEP_W)).to(tl.int64)
    across = tl.cdiv(width, STEP_W)
    h, w = row // across * STEP_H + class_h, row % across * STEP_W + class_w
    valid, wanted = (h < height) & (w < width), into < c_in
    first_h, first_w = (class_h + PAD_H) % STEP_H, (class_w + PAD_W) % STEP_W
    positions_w = tl.cdiv(KERNEL_W - first_w, STEP_W)
    positions = tl.cdiv(KERNEL_H - first_h, STEP_H) * positions_w
    grad += n * out_height * out_width * c_out
    s += n * c_out * POSITIONS

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    deep = tl.cdiv(c_out, DEEP)
    for step in range(positions * deep):
        k_h = step // deep // positions_w * STEP_H + first_h
        k_w = step // deep % positions_w * STEP_W + first_w
        position = k_h * KERNEL_W + k_w
        c = (step % deep) * DEEP + tl.arange(0, DEEP)
        there = c < c_out
        # The output place whose window has the input's place at this kernel position, if the stride hits it.
        by_h, by_w = h + PAD_H - k_h * DILATION_H, w + PAD_W - k_w * DILATION_W
        out_h, out_w = by_h // STRIDE_H, by_w // STRIDE_W
        seen = valid & (by_h >= 0) & (out_h < out_height) & (by_w >= 0) & (out_w < out_width)
        seen = seen & (out_h * STRIDE_H == by_h) & (out_w * STRIDE_W == by_w)
        a_at = grad + ((out_h * out_width + out_w) * c_out)[:, None] + c[None, :]
        b_at = weight + ((c * POSITIONS + position) * c_in)[:, None] + into[None, :]
        a = tl.load(a_at, mask=seen[:, None] & there[None, :], other=0.0)
        b = tl.load(b_at, mask=there[:, None] & wanted[None, :], other=0.0)
        scale = tl.load(s + c * POSITIONS + position, mask=there, other=0.0)
        a = (a.to(TOTAL) * scale[None, :]).to(grad.dtype.element_ty)
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=TOTAL)
    x_at = grad_x + ((n * height + h) * width + w)[:, None] * c_in + into[None, :]
    tl.store(x_at, total.to(grad_x.dtype.element_ty), mask=valid[:, None] & wanted[None, :])


@triton.jit
def _add_places(
    product,
    grad,
    x,
    first,
    first_h,
    first_w,
    out,
    into,
    c_in,
    c_out,
    height,
    width,
    places,
    out_width,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    TOTAL: tl.constexpr,
    PRECISION: tl.constexpr,
    DEEP: tl.constexpr,
):
    """Add ``DEEP`` more places of a sample's M to ``product``."""
    place = first + tl.arange(0, DEEP)
    there = place < places
    h = place // out_width * STRIDE_H + first_h
    w = place % out_width * STRIDE_W + first_w
    seen = there & (h >= 0) & (h < height) & (w >= 0) & (w < width)
    a_at = grad + (place * c_out)[None, :] + out[:, None]
    b_at = x + ((h * width + w) * c_in)[:, None] + into[None, :]
    a = tl.load(a_at, mask=(out < c_out)[:, None] & there[None, :], other=0.0)
    b = tl.load(b_at, mask=seen[:, None] & (into < c_in)[None, :], other=0.0)
    return tl.dot(a, b, product, input_precision=PRECISION, out_dtype=TOTAL)


@triton.jit(do_not_specialize=["batch", "samples"])
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
    ONE_STEP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    """Compute a tile, output by input channels, for ``samples`` samples and one kernel position."""
    POSITIONS: tl.constexpr = KERNEL_H * KERNEL_W
    places = out_height * out_width
    tiles_out, tiles_in = tl.cdiv(c_out, ROWS), tl.cdiv(c_in, COLUMNS)
    tile_in = tl.program_id(0) % tiles_in
    rest = tl.program_id(0) // tiles_in
    position = rest // tiles_out % POSITIONS
    part = tl.cast(rest // (tiles_out * POSITIONS), tl.int64)
    out = (rest % tiles_out) * ROWS + tl.arange(0, ROWS)
    into = tile_in * COLUMNS + tl.arange(0, COLUMNS)
    valid, wanted = out < c_out, into < c_in
    inside = valid[:, None] & wanted[None, :]
    at = ((out * POSITIONS + position) * c_in)[:, None] + into[None, :]
    own = tl.load(weight + at, mask=inside, other=0.0).to(TOTAL)
    s_at = s + out * POSITIONS + position
    grad_s_at = grad_s + tl.cast(tile_in, tl.int64) * batch * c_out * POSITIONS + out * POSITIONS + position
    first_h = position // KERNEL_W * DILATION_H - PAD_H
    first_w = position % KERNEL_W * DILATION_W - PAD_W

    total = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
    for n in range(part * samples, tl.minimum((part + 1) * samples, batch)):
        grad_n, x_n = grad + n * places * c_out, x + n * height * width * c_in
        product = tl.zeros((ROWS, COLUMNS), dtype=TOTAL)
        # If one step is enough, having no inner loop lets loads run ahead over the samples.
        if ONE_STEP:
            product = _add_places(
                product,
                grad_n,
                x_n,
                0,
                first_h,
                first_w,
                out,
                into,
                c_in,
                c_out,
                height,
                width,
                places,
                out_width,
                STRIDE_H,
                STRIDE_W,
                TOTAL,
                PRECISION,
                DEEP,
            )
        else:
            for first in range(0, places, DEEP):
                product = _add_places(
                    product,
                    grad_n,
                    x_n,
                    first,
                    first_h,
                    first_w,
                    out,
                    into,
                    c_in,
                    c_out,
                    height,
                    width,
                    places,
                    out_width,
                    STRIDE_H,
                    STRIDE_W,
                    TOTAL,
                    PRECISION,
                    DEEP,
                )
        of_sample = n * c_out * POSITIONS
        total += product * tl.load(s_at + of_sample, mask=valid, other=0.0)[:, None]
        tl.store(grad_s_at + of_sample, tl.sum(product * own, axis=1), mask=valid)
    tl.store(grad_weight + part * c_out * POSITIONS * c_in + at, total, mask=inside)
