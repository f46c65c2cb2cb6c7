"""No checkpoint is replaced by one whose weights are useless."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from attn_mm.errors import UserError
from attn_mm.utils.weights import wrong_weight


class FiniteWeights(Hook):
    """Ends a training whose weights have become infinite or NaN, before they are saved."""

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        wrong = wrong_weight(runner.model, runner.model.state_dict())
        if wrong:
            raise UserError(
                f"after step {runner.iter + 1}, {wrong}: nothing was saved. Lower the learning rate or clip "
                "gradients"
            )
