"""RoIAlign and RoIPool against float64 loops over regions, bins and samples."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("mmcv")
from mmcv.ops import RoIAlign, RoIPool

SIZE = (3, 2)
SCALE = 0.5
ROIS = [
    [0, 1.3, 2.1, 9.7, 14.2],  # inside
    [1, -6.4, -3.9, 7.7, 5.2],  # over the top left corner
    [1, 5.1, 9.3, 25.8, 31.6],  # over the bottom right corner
    [0, 3.2, 4.4, 3.9, 4.7],  # smaller than a pixel
    [1, 40.3, 50.2, 47.1, 57.9],  # outside
    [0, 4.3, 5.7, 4.3, 5.7],  # empty
]


def make_input(device="cpu") -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 9, 7, generator=generator, dtype=torch.float64).to(device).requires_grad_()


def make_rois(device="cpu") -> torch.Tensor:
    return torch.tensor(ROIS, dtype=torch.float64, device=device)


def interpolate(image: torch.Tensor, y: float, x: float) -> torch.Tensor:
    """The image (C, H, W) at a point: a tent around each pixel; constant for one pixel beyond the border."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    rows = (1 - (torch.arange(height).to(image) - y).abs()).clamp(min=0)
    columns = (1 - (torch.arange(width).to(image) - x).abs()).clamp(min=0)
    return torch.einsum("chw,h,w->c", image, rows, columns)


def roi_align(images, rois, sampling_ratio, pool_mode, aligned) -> torch.Tensor:
    pooled = []
    for index, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * SCALE - (0.5 if aligned else 0) for corner in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        step_y, step_x = height / SIZE[0], width / SIZE[1]
        count_y = sampling_ratio or math.ceil(step_y)
        count_x = sampling_ratio or math.ceil(step_x)
        for by in range(SIZE[0]):
            for bx in range(SIZE[1]):
                samples = [
                    interpolate(
                        images[int(index)],
                        y1 + step_y * (by + (i + 0.5) / count_y),
                        x1 + step_x * (bx + (j + 0.5) / count_x),
                    )
                    for i in range(count_y)
                    for j in range(count_x)
                ]
                if not samples:
                    # mmcv's kernels give these for a bin without samples.
                    value = images.new_full((images.size(1),), 0.0 if pool_mode == "avg" else -10000.0)
                elif pool_mode == "avg":
                    value = torch.stack(samples).mean(0)
                else:
                    value = torch.stack(samples).max(0).values
                pooled.append(value)
    return torch.stack(pooled).reshape(len(rois), *SIZE, -1).permute(0, 3, 1, 2)


def roi_pool(images, rois) -> torch.Tensor:
    height, width = images.shape[2:]
    pooled = []
    for index, x1, y1, x2, y2 in rois.tolist():
        x1, y1, x2, y2 = x1 * SCALE, y1 * SCALE, (x2 + 1) * SCALE, (y2 + 1) * SCALE
        step_y, step_x = (y2 - y1) / SIZE[0], (x2 - x1) / SIZE[1]
        for by in range(SIZE[0]):
            rows = range(math.floor(by * step_y + y1), math.ceil((by + 1) * step_y + y1))
            for bx in range(SIZE[1]):
                columns = range(math.floor(bx * step_x + x1), math.ceil((bx + 1) * step_x + x1))
                pixels = [
                    images[int(index), :, row, column]
                    for row in rows
                    for column in columns
                    if 0 <= row < height and 0 <= column < width
                ]
                pooled.append(
                    torch.stack(pixels).max(0).values if pixels else images.new_zeros(images.size(1))
                )
    return torch.stack(pooled).reshape(len(rois), *SIZE, -1).permute(0, 3, 1, 2)


def assert_same(images, actual, expected) -> None:
    """Both the values and the gradients of a random projection of them."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = direction.to(images.device)
    (actual_grad,) = torch.autograd.grad((actual * direction).sum(), images)
    (expected_grad,) = torch.autograd.grad((expected * direction).sum(), images)
    assert expected_grad.abs().max() > 0.1
    torch.testing.assert_close(actual_grad, expected_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align(device, sampling_ratio, pool_mode, aligned):
    images, rois = make_input(device), make_rois(device)
    module = RoIAlign(SIZE, SCALE, sampling_ratio, pool_mode, aligned)
    assert_same(images, module(images, rois), roi_align(images, rois, sampling_ratio, pool_mode, aligned))


def test_roi_pool(device, no_cpu_kernel):
    images, rois = make_input(device), make_rois(device)
    assert_same(images, RoIPool(SIZE, SCALE)(images, rois), roi_pool(images, rois))


def test_roi_pool_of_a_reversed_region_is_zero(device, served_only):
    images = make_input(device)
    rois = torch.tensor([[0.0, 9.0, 9.0, 7.8, 7.8]], dtype=torch.float64, device=device)
    pooled = RoIPool(SIZE, SCALE)(images, rois)
    assert pooled.abs().max() == 0
    (grad,) = torch.autograd.grad(pooled.sum(), images)
    assert grad.abs().max() == 0


@pytest.mark.parametrize(
    "module", [RoIAlign(SIZE, SCALE), RoIAlign(SIZE, SCALE, 0, "max"), RoIPool(SIZE, SCALE)], ids=str
)
def test_no_regions(device, module, compiled):
    if compiled and device == "cpu" and isinstance(module, RoIPool):
        pytest.skip("compiled mmcv has this op on accelerators only")
    images = make_input(device)
    pooled = module(images, make_rois(device)[:0])
    assert pooled.shape == (0, 3, *SIZE)
    (grad,) = torch.autograd.grad(pooled.sum(), images)
    assert grad.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
def test_roi_align_in_half_precision(device, pool_mode, dtype, served_only):
    images, rois = make_input(device), make_rois(device)[:3].round()
    half = images.detach().to(dtype).requires_grad_()
    with torch.autocast(device, dtype=torch.bfloat16):
        pooled = RoIAlign(SIZE, SCALE, 2, pool_mode)(half, rois.to(dtype))
    assert pooled.dtype == dtype
    expected = roi_align(images, rois, 2, pool_mode, aligned=True)
    torch.testing.assert_close(pooled.double(), expected, rtol=0.02, atol=0.02)
    (grad,) = torch.autograd.grad(pooled.sum(), half)
    (expected_grad,) = torch.autograd.grad(expected.sum(), images)
    torch.testing.assert_close(grad.sum(), expected_grad.sum().to(dtype), rtol=0.02, atol=0.02)
