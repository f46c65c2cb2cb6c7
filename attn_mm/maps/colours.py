"""The colour scales of maps.

Nuñez et al., Optimizing colormaps with consideration for color vision deficiency, PLOS ONE 2018 (cividis);
Mikhailov, Turbo, An Improved Rainbow Colormap for Visualization, Google AI Blog 2019 (turbo).
"""

from __future__ import annotations

import cv2
import numpy as np

# Each with the shades of it that are used: both ends of turbo are nearly black.
_SCALES = {"cividis": (cv2.COLORMAP_CIVIDIS, 0, 255), "turbo": (cv2.COLORMAP_TURBO, 20, 235)}

COLOURS = tuple(_SCALES)
"""Names of the scales; the first is the default."""


def colours(level: np.ndarray, scale: str = COLOURS[0]) -> np.ndarray:
    """Colour levels, clipped to 0..1; returns (..., 3), uint8 BGR.

    Args:
        level: the levels, (h, w).
        scale: one of :data:`COLOURS`.
    """
    code, first, last = _SCALES[scale]
    shades = np.rint(first + (last - first) * level.clip(0, 1)).astype(np.uint8)
    return cv2.applyColorMap(shades, code)
