"""COCO-format annotations without an ``info`` entry can be evaluated.

pycocotools 2.0.10 copies ``info`` into the results without asking whether it
is there (``COCO.loadRes``, coco.py:314). Many sets have none, and mmdet would
find out after the first epoch.
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


def mend() -> None:
    after_import("pycocotools.coco", _default_info)
