"""Check the checkpoint that a runner has loaded before it fills the model."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from attn_mm.errors import UserError
from attn_mm.frameworks.loading import check_finite, fill


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
        model = _unwrapped(runner.model)
        weights = checkpoint.get("state_dict", checkpoint)
        if runner._resume and not self._testing:
            _check_resumable(checkpoint, name)
        if runner._resume or self._testing:
            fill(model, weights, f"{name} does not fit {runner.cfg.filename}")
            return
        names = {str(key).removeprefix("module.") for key in weights}
        if names.isdisjoint(model.state_dict()):
            raise UserError(
                f"none of the {len(names)} weights in {name} is the model's, whose names are like "
                f"{next(iter(model.state_dict()))}: load_from needs a checkpoint of the same kind of model"
            )
        check_finite(model, weights, name)


def _unwrapped(model: Any) -> Any:
    inner = is_model_wrapper(model) or isinstance(model, BaseTTAModel)
    return _unwrapped(model.module) if inner else model


def _check_resumable(checkpoint: dict, name: str) -> None:
    meta, hub = checkpoint.get("meta"), checkpoint.get("message_hub")
    progress = [meta.get(key) for key in ("epoch", "iter")] if isinstance(meta, dict) else [None]
    if any(type(number) is not int or number < 0 for number in progress):
        raise _only_weights(name, "says no epoch and iteration")
    parts = ("log_scalars", "runtime_info", "resumed_keys")
    if not isinstance(hub, MessageHub) and not (
        isinstance(hub, dict) and all(isinstance(hub.get(part), dict) for part in parts)
    ):
        raise _only_weights(name, "has no message_hub")
    if not isinstance(checkpoint.get("optimizer"), dict):
        raise _only_weights(name, "has no state of the optimizer")


def _only_weights(name: str, lack: str) -> UserError:
    return UserError(
        f"{name} {lack}, so training can't resume from it. To start from its weights, leave out --resume "
        "and set load_from with --cfg-options"
    )
