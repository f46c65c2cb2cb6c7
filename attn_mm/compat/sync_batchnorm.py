"""SyncBN conversion keeps multi-flow norms.

``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` and mmengine 0.10.7's
``convert_sync_batchnorm`` (mmengine/model/utils.py:208, behind ``sync_bn=`` of
the runner) replace every subclass of ``_BatchNorm`` by a plain ``SyncBatchNorm``
and so drop what the subclass adds: an MFBN would lose its flows. Both get an
exception for MFBN. They call themselves by these names on every child, so that
replacing the name reaches them all.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from torch import nn

from attn_mm.compat.lazy import after_import
from attn_mm.layers.mfbn import MFBN


def _mend_torch() -> None:
    owner: Any = nn.SyncBatchNorm
    plain = owner.convert_sync_batchnorm.__func__

    @wraps(plain)
    def convert_sync_batchnorm(cls, module, process_group=None):
        if isinstance(module, MFBN):
            return module.synchronized(process_group)
        return plain(cls, module, process_group)

    owner.convert_sync_batchnorm = classmethod(convert_sync_batchnorm)


def _mend_mmengine(utils: Any) -> None:
    plain = utils.convert_sync_batchnorm

    @wraps(plain)
    def convert_sync_batchnorm(module, implementation="torch"):
        if isinstance(module, MFBN):
            return module.synchronized()
        return plain(module, implementation)

    utils.convert_sync_batchnorm = convert_sync_batchnorm


def mend() -> None:
    _mend_torch()
    after_import("mmengine.model.utils", _mend_mmengine)
