"""Pooling of regions of interest: RoIAlign (He et al., ICCV 2017) and RoIPool (Girshick, ICCV 2015).

``rois`` is ``(K, 5)``: the image's index in the batch, then ``x1, y1, x2, y2`` in
pixels of the image; ``spatial_scale`` maps pixels to the feature map ``(B, C, H, W)``.
RoIPool differs from torchvision's: torchvision rounds the corners, mmcv doesn't.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torchvision  # noqa: F401  registers torch.ops.torchvision
from torch import Tensor

from attn_mm.compat.mmcv_ops.precision import promoted

__all__ = ["roi_align_backward", "roi_align_forward", "roi_pool_backward", "roi_pool_forward"]

# The number by which mmcv's wrapper hands over `pool_mode='max'`; 'avg' is 1.
MAX = 0
# What mmcv's kernels give for the maximum of a bin without samples.
NO_SAMPLE = -10000.0


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features into ``output`` ``(K, C, aligned_height, aligned_width)``.

    In max mode the maxima's positions go into ``argmax_y`` and ``argmax_x``.
    """
    input, rois = promoted(input, rois)
    size = (aligned_height, aligned_width)
    if pool_mode == MAX:
        found = _align_max(input, rois, size, spatial_scale, sampling_ratio, aligned)
        for target, value in zip((output, argmax_y, argmax_x), found, strict=True):
            target.copy_(value)
    else:
        output.copy_(
            torch.ops.torchvision.roi_align(input, rois, spatial_scale, *size, sampling_ratio, aligned)
        )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the feature map into ``grad_input`` ``(B, C, H, W)``."""
    if pool_mode == MAX:
        grad, y, x = promoted(grad_output, argmax_y, argmax_x)
        height, width = grad_input.shape[2:]
        # The forward pass leaves -1 where a bin had no sample.
        grad = grad * (y != -1)
        for row, column, weight in _corners(y, x, height, width):
            _add_at(grad_input, rois, row * width + column, grad * weight)
    else:
        grad, boxes = promoted(grad_output, rois)
        size = (aligned_height, aligned_width)
        grad_input.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad, boxes, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
            )
        )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write each bin's maximum and its index ``y * W + x`` (-1: an empty bin, maximum 0)."""
    input, rois = promoted(input, rois)
    height, width = input.shape[2:]
    x1, y1 = (rois[:, 1:3] * spatial_scale).unbind(1)
    x2, y2 = ((rois[:, 3:] + 1) * spatial_scale).unbind(1)
    proper = ((x2 > x1) & (y2 > y1))[:, None]
    top, bottom = _bin_pixels(y1, y2, pooled_height, height)
    left, right = _bin_pixels(x1, x2, pooled_width, width)

    pixels = input.permute(0, 2, 3, 1)
    image = rois[:, 0].long()[:, None, None]
    best = input.new_full((len(rois), pooled_height, pooled_width, input.size(1)), -torch.inf)
    index = torch.full_like(best, -1, dtype=torch.long)
    for dy, dx in product(range(_largest(bottom - top)), range(_largest(right - left))):
        y, x = (top + dy)[:, :, None], (left + dx)[:, None, :]
        inside = (y < bottom[:, :, None]) & (x < right[:, None, :]) & proper[..., None]
        value = pixels[image, y.clamp(max=height - 1), x.clamp(max=width - 1)]
        better = inside[..., None] & (value > best)
        best = torch.where(better, value, best)
        index = torch.where(better, (y * width + x)[..., None], index)
    output.copy_(best.where(index >= 0, 0.0).permute(0, 3, 1, 2))
    argmax.copy_(index.permute(0, 3, 1, 2))


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add each bin's gradient to ``grad_input`` ``(B, C, H, W)`` at the bin's maximum."""
    (grad,) = promoted(grad_output)
    _add_at(grad_input, rois, argmax.long().clamp(min=0), grad * (argmax >= 0))


def _align_max(
    input: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """RoIAlign by maximum: the maxima and their y and x, each ``(K, C, *size)``."""
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale - 0.5 * aligned).unbind(1)
    sample_y, in_y = _samples(y1, y2, size[0], sampling_ratio, aligned)
    sample_x, in_x = _samples(x1, x2, size[1], sampling_ratio, aligned)

    pixels = input.permute(0, 2, 3, 1)
    image = rois[:, 0].long()[:, None, None]
    best = input.new_full((len(rois), *size, input.size(1)), NO_SAMPLE)
    best_y, best_x = torch.full_like(best, -1), torch.full_like(best, -1)
    for i, j in product(range(in_y.size(1)), range(in_x.size(1))):
        y, x = sample_y[:, :, None, i], sample_x[:, None, :, j]
        value = sum(
            pixels[image, row, column] * weight[..., None]
            for row, column, weight in _corners(y, x, *input.shape[2:])
        )
        better = (in_y[:, i] & in_x[:, j])[:, None, None, None] & (value > best)
        best = torch.where(better, value, best)
        best_y = torch.where(better, y[..., None], best_y)
        best_x = torch.where(better, x[..., None], best_x)
    best, best_y, best_x = (t.permute(0, 3, 1, 2) for t in (best, best_y, best_x))
    return best, best_y, best_x


def _samples(
    start: Tensor, end: Tensor, bins: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor]:
    """Sample positions of each region's bins along one axis, ``(K, bins, S)``, and which of the S are
    used, ``(K, S)``: ``sampling_ratio`` of them, or one per pixel of the bin if it is 0."""
    step = (end - start if aligned else (end - start).clamp(min=1)) / bins
    count = torch.full_like(step, sampling_ratio) if sampling_ratio > 0 else step.ceil()
    number = torch.arange(_largest(count), device=start.device, dtype=start.dtype)
    within = (number + 0.5) * (step / count.clamp(min=1))[:, None]
    bin_start = start[:, None] + torch.arange(bins, device=start.device) * step[:, None]
    return bin_start[:, :, None] + within[:, None], number < count[:, None]


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Row, column and weight of the four pixels around a position (bilinear).

    Positions up to one pixel outside get the border's value; farther out, the weight is 0.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    for row, row_weight in _neighbours(y, height):
        for column, column_weight in _neighbours(x, width):
            yield row, column, row_weight * column_weight * inside


def _neighbours(position: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    position = position.clamp(0, size - 1)
    low = position.floor()
    far = position - low
    low = low.long()
    return (low, 1 - far), ((low + 1).clamp(max=size - 1), far)


def _bin_pixels(start: Tensor, end: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """First pixel, and the pixel after the last, of each region's bins along one axis; both ``(K, bins)``."""
    step = ((end - start) / bins)[:, None]
    number = torch.arange(bins, device=start.device)
    first = (number * step + start[:, None]).floor()
    after = ((number + 1) * step + start[:, None]).ceil()
    return first.clamp(0, size).long(), after.clamp(0, size).long()


def _largest(count: Tensor) -> int:
    return int(count.max()) if count.numel() else 0


def _add_at(grad_input: Tensor, rois: Tensor, index: Tensor, value: Tensor) -> None:
    """Add ``value`` ``(K, C, h, w)`` to the regions' images at pixel ``index = y * W + x``."""
    batch, channels, height, width = grad_input.shape
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    index = plane[:, :, None, None] * (height * width) + index
    total = value.new_zeros(grad_input.numel())
    total.index_add_(0, index.flatten(), value.flatten())
    grad_input.add_(total.view(batch, channels, height, width))
