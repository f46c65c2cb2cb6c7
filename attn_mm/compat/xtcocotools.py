"""mmpose works without xtcocotools.

mmpose 1.3.2 imports xtcocotools for every COCO-style data set and metric
(mmpose/datasets/datasets/base/base_coco_style_dataset.py:13,
mmpose/evaluation/metrics/coco_metric.py:12). Its last release, 1.14.3, has no
wheel for Python 3.12, and its wheels fail to import with NumPy 2. If the import
fails, :mod:`attn_mm.compat.coco_keypoints` replaces it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import serve


def _imports() -> bool:
    # NumPy prints a page of advice where an extension was built for NumPy 1.
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            importlib.import_module("xtcocotools._mask")
        except Exception:
            return False
    return True


def _coco(module: Any) -> None:
    from attn_mm.compat.coco_keypoints import COCO

    module.COCO = COCO


def _cocoeval(module: Any) -> None:
    from attn_mm.compat.coco_keypoints import COCOeval

    module.COCOeval = COCOeval


def _mask(module: ModuleType) -> None:
    from pycocotools import mask

    module.__dict__.update({name: value for name, value in vars(mask).items() if not name.startswith("_")})


def patch() -> None:
    if _imports():
        return
    if "xtcocotools" in sys.modules:  # installed, but its extension does not load
        sys.modules["xtcocotools"].__path__ = []
    serve("xtcocotools")
    serve("xtcocotools.coco", _coco)
    serve("xtcocotools.cocoeval", _cocoeval)
    serve("xtcocotools.mask", _mask)
