"""SSD can predict.

In prediction, mmdet 3.3.0's ``BaseDenseHead`` reads ``self.loss_cls``
(mmdet/models/dense_heads/base_dense_head.py:376), but ``SSDHead`` never sets it:
ssd_head.py:85 skips the initialisation of its parent.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType

from attn_mm.compat.lazy import after_import


def _set_loss_cls(module: ModuleType) -> None:
    plain_init = module.SSDHead.__init__

    @wraps(plain_init)
    def init(self, *args, **kwargs) -> None:
        plain_init(self, *args, **kwargs)
        if not hasattr(self, "loss_cls"):
            self.loss_cls = None

    module.SSDHead.__init__ = init


def patch() -> None:
    after_import("mmdet.models.dense_heads.ssd_head", _set_loss_cls)
