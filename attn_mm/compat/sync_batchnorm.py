"""Conversion to SyncBN keeps multi-flow norms.

``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` and mmengine 0.10.7's
``convert_sync_batchnorm`` (mmengine/model/utils.py:208, behind ``sync_bn=`` of
the runner) replace every subclass of ``_BatchNorm`` with a plain
``SyncBatchNorm``, so an MFBN would lose its flows. The patch makes both convert
MFBN to its synchronised form. Both functions call themselves by name on every
child, so replacing the names is enough.
"""

from __future__ import annotations

from functools import wraps
from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import after_import


def _patch_torch(torch: ModuleType) -> None:
    owner: Any = torch.nn.SyncBatchNorm
    plain = owner.convert_sync_batchnorm.__func__

    @wraps(plain)
    def convert_sync_batchnorm(cls, module, process_group=None):
        from attn_mm.layers.mfbn import MFBN

        if isinstance(module, MFBN):
            return module.synchronized(process_group)
        return plain(cls, module, process_group)

    owner.convert_sync_batchnorm = classmethod(convert_sync_batchnorm)


def _patch_mmengine(utils: Any) -> None:
    plain = utils.convert_sync_batchnorm

    @wraps(plain)
    def convert_sync_batchnorm(module, implementation="torch"):
        from attn_mm.layers.mfbn import MFBN

        if isinstance(module, MFBN):
            return module.synchronized()
        return plain(module, implementation)

    utils.convert_sync_batchnorm = convert_sync_batchnorm


def patch() -> None:
    after_import("torch", _patch_torch)
    after_import("mmengine.model.utils", _patch_mmengine)
