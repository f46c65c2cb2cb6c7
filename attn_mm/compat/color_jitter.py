"""mmaction2's ColorJitter works with NumPy 2.

mmaction2 1.2.0 adds the hue's offset, a Python number from -127 to 127, to an array of uint8
(mmaction/datasets/transforms/processing.py:979). NumPy 2 raises OverflowError if it is negative. With any
NumPy a positive one wraps at 256 before the hue does at 180. The patch adds them as int16.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from attn_mm.compat.lazy import after_import


def adjust_hue(img: np.ndarray, factor: float) -> np.ndarray:
    """Shift the hue of an RGB image, (height, width, 3) from 0 to 255, by ``factor * 255`` steps."""
    # Importing attn_mm must not take the time of importing OpenCV.
    import cv2

    hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(factor * 255)) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


def _shift_hues(module: ModuleType) -> None:
    module.ColorJitter.adjust_hue = staticmethod(adjust_hue)


def patch() -> None:
    after_import("mmaction.datasets.transforms.processing", _shift_hues)
