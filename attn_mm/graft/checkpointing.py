"""Gradient checkpointing (``with_cp``) of blocks that hold multi-flow norms.

Upstream blocks checkpoint a closure. It runs again in the backward pass, when
another flow is current. This mixin checkpoints the whole block instead and
reruns it in the flow of its first run.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attn_mm.graft.swap import swap_class
from attn_mm.layers.mfbn import MFBN
from attn_mm.layers.ops.execution import current_flow, run_in_flow

NO_CHECKPOINTS = "gradient checkpointing would run norms again outside their flow: switch it off"
_OTHER_SWITCHES = ("grad_checkpointing", "memory_efficient")


class FlowCheckpointMixin(nn.Module):
    """Mixin: checkpoints the whole block under the current flow."""

    def forward(self, x: Tensor) -> Tensor:
        plain = super().forward
        if not x.requires_grad:
            return plain(x)
        return checkpoint(run_in_flow, current_flow(), plain, x, use_reentrant=False)


def checkpoint_by_flow(backbone: nn.Module) -> None:
    """Replace the checkpointing of all blocks with ``with_cp=True`` and multi-flow norms in ``backbone``."""
    if any(getattr(module, name, False) for module in backbone.modules() for name in _OTHER_SWITCHES):
        raise ValueError(NO_CHECKPOINTS)
    for block in _checkpointed(backbone):
        block.with_cp = False
        swap_class(block, FlowCheckpointMixin)


def _checkpointed(backbone: nn.Module) -> list[Any]:
    told = {module for module in backbone.modules() if getattr(module, "with_cp", False)}
    # Modules around a block have the flag only to pass it on.
    blocks = [module for module in told if not any(inner in told for inner in list(module.modules())[1:])]
    return [block for block in blocks if any(isinstance(module, MFBN) for module in block.modules())]
