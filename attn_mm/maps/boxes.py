"""Draw boxes from class activation maps, and measure how much they overlap.

Selvaraju et al., Grad-CAM, ICCV 2017 (https://arxiv.org/abs/1610.02391), section 4.1: the map is thresholded
at 15 % of its maximum, and the box encloses the largest connected segment.

Boxes are x1, y1, x2, y2 in pixels; x2 and y2 are the end of the last pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

THRESHOLD = 0.15

Box = Sequence[float]


def map_box(heat: np.ndarray, threshold: float = THRESHOLD) -> list[int] | None:
    """Draw a box around the largest connected segment that reaches ``threshold`` of a map's maximum.

    Pixels that touch only at a corner are connected, too.

    Args:
        heat: the map, (H, W), not negative.

    Returns:
        The box, or None if the map is 0 everywhere.
    """
    highest = float(np.max(heat))
    if highest <= 0:
        return None
    hot = (np.asarray(heat) >= threshold * highest).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    # The first segment is what does not reach it.
    x, y, width, height, _ = stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])].tolist()
    return [x, y, x + width, y + height]


def iou(box: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 if one is empty."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    union = _area(box) + _area(other) - common
    return common / union if common else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
