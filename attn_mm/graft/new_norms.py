"""The norms that grafts add follow those of the backbone where it synchronizes or freezes them.

They are batch norms, as in the papers, whatever the backbone's ``norm_cfg``: group norm in the backbone
does not make them group norms. Batch norms that a graft repeats, as TD does, are copies of the backbone's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.layers import MFSyncBN


def synchronize_like(backbone: nn.Module, new: Iterable[nn.Module]) -> None:
    """Synchronize the batch norms inside new modules, in place, if the backbone has ``norm_cfg=SyncBN``.

    An AW-convolution's norms see as few as one value per image and channel, so the joint batch of all
    processes matters more to them than to any norm of the backbone.

    Args:
        backbone: a grafted backbone.
        new: the modules that grafts have added; none of them is a norm itself.
    """
    is_sync: Any = (nn.SyncBatchNorm, MFSyncBN)
    norms = (module for module in backbone.modules() if isinstance(module, is_sync))
    example = next(norms, None)
    if example is not None:
        for module in new:
            nn.SyncBatchNorm.convert_sync_batchnorm(module, example.process_group)


def thaw_norms(module: nn.Module) -> None:
    """Let the norms in a new module learn again after mmaction's ``partial_bn``.

    ``partial_bn`` freezes all batch norms but the first because they are pretrained; new ones are not.
    """
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            for parameter in norm.parameters():
                parameter.requires_grad_(True)
