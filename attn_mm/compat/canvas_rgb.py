"""mmpose draws 3D keypoints with Matplotlib 3.10.

mmpose 1.3.2 reads the picture with ``canvas.tostring_rgb()``, which Matplotlib 3.10 removed
(mmpose/visualization/local_visualizer_3d.py:295). The patch gives the canvas that method again.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from attn_mm.compat.lazy import after_import


def _tostring_rgb(self) -> bytes:
    return np.asarray(self.buffer_rgba())[..., :3].tobytes()


def _add_method(module: ModuleType) -> None:
    if not hasattr(module.FigureCanvasAgg, "tostring_rgb"):
        module.FigureCanvasAgg.tostring_rgb = _tostring_rgb


def patch() -> None:
    after_import("matplotlib.backends.backend_agg", _add_method)
