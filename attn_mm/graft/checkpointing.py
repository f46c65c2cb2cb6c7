"""Gradient checkpointing (``with_cp``) of blocks that hold multi-flow norms.

Upstream blocks checkpoint a closure. It runs again in the backward pass, when
another flow is current. This mixin checkpoints the whole block instead and
reruns it in the flow of its first run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attn_mm.graft.swap import swap_class
from attn_mm.layers.ops.execution import current_flow, run_in_flow


class FlowCheckpointMixin(nn.Module):
    """Mixin: checkpoints the whole block under the current flow."""

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward
        if not x.requires_grad:
            return plain(x)
        return checkpoint(run_in_flow, current_flow(), plain, x, use_reentrant=False)


def checkpoint_by_flow(blocks: Iterable[Any]) -> None:
    """Replace the checkpointing of all ``blocks`` that have ``with_cp=True``."""
    for block in blocks:
        if getattr(block, "with_cp", False):
            block.with_cp = False
            swap_class(block, FlowCheckpointMixin)
