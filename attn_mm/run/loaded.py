"""Check the checkpoint that a runner has loaded before it fills the model."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from attn_mm.errors import UserError
from attn_mm.frameworks.loading import check_weights, fill
from attn_mm.utils.weights import without_wrapper


class CheckLoaded(Hook):
    """Refuses a checkpoint that does not fit: mmengine fills in what it finds, and goes on.

    A test and a resumed training need all of the model's weights. A training that starts from other
    weights (``load_from``) needs one at least.
    """

    priority = "VERY_HIGH"

    def __init__(self, testing: bool = False) -> None:
        self._testing = testing

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check ``checkpoint``; UserError if the run can't use it."""
        name = runner._load_from or f"the latest checkpoint in {runner.work_dir}"
        model = unwrapped(runner.model)
        weights = checkpoint.get("state_dict", checkpoint)
        if runner._resume or self._testing:
            fill(model, weights, f"{name} does not fit {runner.cfg.filename}")
            if runner._resume and "ema_state_dict" in checkpoint:
                _check_averages(model, checkpoint["ema_state_dict"], name)
            return
        weights = without_wrapper(weights)
        if weights.keys().isdisjoint(model.state_dict()):
            raise UserError(
                f"none of the {len(weights)} weights in {name} is the model's, whose names are like "
                f"{next(iter(model.state_dict()))}: load_from needs a checkpoint of the same kind of model"
            )
        check_weights(model, weights, name)


def _check_averages(model: BaseModel, averages: Any, name: str) -> None:
    """Check what ``EMAHook`` continues with; it loads what it finds."""
    averages = without_wrapper(averages) if isinstance(averages, dict) else {}
    lacking = [key for key, _ in model.named_parameters() if key not in averages]
    if lacking:
        raise UserError(f"{name} can't be resumed: its ema_state_dict lacks {lacking[0]}")
    check_weights(model, averages, f"ema_state_dict of {name}")


def unwrapped(model: Any) -> Any:
    """The network in the wrappers for several processes and for test-time augmentation."""
    inner = is_model_wrapper(model) or isinstance(model, BaseTTAModel)
    return unwrapped(model.module) if inner else model
