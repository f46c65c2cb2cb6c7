"""A neck that pools every map it gets and concatenates the results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from attn_mm.registry import MODELS


@MODELS.register_module()
class PooledConcat(BaseModule):
    """A neck that gives the means of all maps, side by side."""

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Maps ``(N, C_i, *size_i)`` -> a tuple of one, ``(N, sum of C_i)``, for mmpretrain's heads."""
        return (torch.cat([x.flatten(2).mean(2) for x in maps], 1),)
