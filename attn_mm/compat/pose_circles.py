"""mmpose draws keypoints.

mmpose 1.3.2 hands a circle's radius on as an array of one number, which its Matplotlib backend wants, and
converts it by ``int`` for OpenCV (mmpose/visualization/local_visualizer.py:350,
opencv_backend_visualizer.py:132), which NumPy 2.4 refuses.
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


def mend() -> None:
    after_import("mmpose.visualization.opencv_backend_visualizer", _take_arrays)
