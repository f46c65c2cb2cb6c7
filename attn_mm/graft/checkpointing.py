"""Gradient checkpointing (``with_cp``) of blocks that hold multi-flow norms.

The upstream blocks checkpoint a closure that runs again in the backward pass,
when another flow is current. The block is checkpointed as a whole instead, and
its second run gets the flow of its first.
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
    """Take over the checkpointing of those of ``blocks`` that have ``with_cp=True``."""
    for block in blocks:
        if getattr(block, "with_cp", False):
            block.with_cp = False
            swap_class(block, FlowCheckpointMixin)
