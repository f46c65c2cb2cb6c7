"""mmaction2's ImgAug leaves NumPy as it is.

mmaction2 1.2.0 sets ``np.bool = bool`` for the imgaug package when it builds an ``ImgAug``
(mmaction/datasets/transforms/wrappers.py:209). NumPy 2 has a ``np.bool`` of its own, its scalar type, and
``np.dtype`` objects and other packages compare with it afterwards. The patch undoes the assignment.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType

import numpy as np

from attn_mm.compat.lazy import after_import


def _keep_bool(module: ModuleType) -> None:
    plain = module.ImgAug.__init__

    @wraps(plain)
    def init(self, *args, **kwargs) -> None:
        own = vars(np).get("bool")
        try:
            plain(self, *args, **kwargs)
        finally:
            if own is not None:
                vars(np)["bool"] = own

    module.ImgAug.__init__ = init


def patch() -> None:
    after_import("mmaction.datasets.transforms.wrappers", _keep_bool)
