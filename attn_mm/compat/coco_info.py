"""COCO's evaluation accepts annotations without an ``info`` entry.

pycocotools 2.0.10 copies ``info`` into the results without checking that it
exists (``COCO.loadRes``, coco.py:314). Many data sets have none, and mmdet would
crash after the first epoch.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType

from attn_mm.compat.lazy import after_import


def _default_info(module: ModuleType) -> None:
    plain = module.COCO.loadRes

    @wraps(plain)
    def load_res(self, *args, **kwargs):
        self.dataset.setdefault("info", {})
        return plain(self, *args, **kwargs)

    module.COCO.loadRes = load_res


def patch() -> None:
    after_import("pycocotools.coco", _default_info)
