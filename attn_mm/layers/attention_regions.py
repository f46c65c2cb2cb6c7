"""Crops and erasures of an image where an attention map is high.

Hu et al., See Better Before Looking Closer, 2019, "Attention-guided Data Augmentation"
(https://arxiv.org/abs/1901.09891). A map is interpolated to the image's pixels and stretched to [0, 1]; a
pixel is *attended* where it then exceeds a threshold. A map without any contrast attends no pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attended(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Which pixels maps ``(N, h, w)`` attend, boolean ``(N, *size)``."""
    maps = F.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return maps - low > threshold * (high - low)


def drop_masks(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Attention dropping: 0 on attended pixels and 1 elsewhere, float32 ``(N, 1, *size)``."""
    return (~attended(maps, size, threshold))[:, None].float()


def crop_boxes(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Attention cropping: the smallest box around the attended pixels; the whole image where none is.

    Args:
        maps: ``(N, h, w)``.
        size: H and W of the image.
        threshold: in [0, 1).

    Returns:
        ``(N, 4)``, integers: x1, y1, x2, y2 in pixels, of which x2 and y2 are outside.
    """
    mask = attended(maps, size, threshold)
    mask = mask | ~mask.any(2, keepdim=True).any(1, keepdim=True)
    ends = []
    for axis, side in ((1, size[1]), (2, size[0])):
        hit = mask.any(axis).int()
        ends.append((hit.argmax(1), side - hit.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = ends
    return torch.stack([x1, y1, x2, y2], 1)


def crop_and_enlarge(images: Tensor, boxes: Tensor) -> Tensor:
    """The boxes ``(N, 4)`` of images ``(N, C, H, W)``, each interpolated linearly to the whole size."""
    size = images.shape[2:]
    crops = [
        F.interpolate(image[None, :, y1:y2, x1:x2], size, mode="bilinear", align_corners=False)
        for image, (x1, y1, x2, y2) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(crops)
