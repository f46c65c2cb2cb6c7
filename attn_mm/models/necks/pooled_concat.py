"""The neck PooledConcat: averages every map and concatenates the results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from attn_mm.registry import MODELS


@MODELS.register_module()
class PooledConcat(BaseModule):
    """Neck that averages each map over space and concatenates the means."""

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Compute ``(N, sum of C_i)`` from maps ``(N, C_i, *size_i)``, in a tuple for mmpretrain's heads."""
        return (torch.cat([x.flatten(2).mean(2) for x in maps], 1),)
