"""No checkpoint is replaced by one whose weights are useless."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from attn_mm.errors import UserError


class FiniteWeights(Hook):
    """Ends a training whose weights have become infinite or NaN, before they are saved."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        for name, weight in runner.model.named_parameters():
            if not weight.isfinite().all():
                raise UserError(
                    f"{name} is no longer finite after step {runner.iter + 1}: nothing was saved. Lower "
                    "the learning rate or clip gradients"
                )
