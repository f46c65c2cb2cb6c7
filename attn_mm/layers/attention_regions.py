"""Crop or erase the region of an image where an attention map is high.

Hu et al., See Better Before Looking Closer, 2019, "Attention-guided Data Augmentation"
(https://arxiv.org/abs/1901.09891). A map is interpolated to the image's size and rescaled to [0, 1]; a
pixel is *attended* if its value then exceeds a threshold. A constant map attends no pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attended(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Boolean masks ``(N, *size)`` of the pixels that the maps ``(N, h, w)`` attend."""
    maps = F.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0]
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return maps - low > threshold * (high - low)


def drop_masks(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Masks for attention dropping: float32 ``(N, 1, *size)``, 0 on attended pixels and 1 elsewhere."""
    return (~attended(maps, size, threshold))[:, None].float()


def crop_boxes(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Boxes for attention cropping: the smallest around the attended pixels, or the whole image if none is.

    Args:
        maps: attention maps, ``(N, h, w)``.
        size: H and W of the image.
        threshold: in [0, 1).

    Returns:
        Integers ``(N, 4)``: x1, y1, x2, y2 in pixels; x2 and y2 are exclusive.
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
    """Crop the ``boxes`` ``(N, 4)`` from ``images`` ``(N, C, H, W)`` and resize each crop to ``(H, W)``."""
    size = images.shape[2:]
    crops = [
        F.interpolate(image[None, :, y1:y2, x1:x2], size, mode="bilinear", align_corners=False)
        for image, (x1, y1, x2, y2) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(crops)
