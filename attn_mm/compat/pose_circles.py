"""mmpose can draw keypoints with NumPy 2.4.

mmpose 1.3.2 passes a circle's radius as an array of one number, which its Matplotlib backend needs. For
OpenCV it converts the array with ``int`` (mmpose/visualization/local_visualizer.py:350,
opencv_backend_visualizer.py:132), which NumPy 2.4 rejects.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType

import numpy as np

from attn_mm.compat.lazy import after_import


def _take_arrays(module: ModuleType) -> None:
    plain = module.OpencvBackendVisualizer.draw_circles

    @wraps(plain)
    def draw_circles(self, center, radius, *args, **kwargs):
        if self.backend == "opencv":
            radius = np.asarray(radius).item()
        return plain(self, center, radius, *args, **kwargs)

    module.OpencvBackendVisualizer.draw_circles = draw_circles


def patch() -> None:
    after_import("mmpose.visualization.opencv_backend_visualizer", _take_arrays)
