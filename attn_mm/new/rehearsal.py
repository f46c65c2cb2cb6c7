"""Try a config as its training will: build its network and its data sets, with all checks before a run."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import Watch
from attn_mm.errors import UserError
from attn_mm.new.logs import collected_warnings
from attn_mm.run.check_config import check_config
from attn_mm.utils.config import load_config, reason

_SPLITS = ("train", "val", "test")


def rehearse(trial: Path, target: Path) -> tuple[list[str], int]:
    """Build what a config describes, without its weights.

    Args:
        trial: the config, somewhere else than where it will be.
        target: its place to be, for messages.

    Returns:
        Warnings about the data, and the number of the network's parameters.

    Raises:
        UserError: the network can't be built, or a check finds a fault.
    """

    def as_target(message: object) -> str:
        return str(message).replace(
            f"{trial.parent}/", f"{target.parent}/" if target.parent != Path() else ""
        )

    cfg = load_config(str(trial))
    try:
        check_config(cfg, _SPLITS)
        check_data(cfg, _SPLITS)
        # pycocotools prints of every file that it reads.
        silence = contextlib.redirect_stdout(io.StringIO())
        with (
            silence,
            collected_warnings() as warnings,
            DefaultScope.overwrite_default_scope(cfg.default_scope),
        ):
            model = _built(cfg.model)
            watch = Watch(cfg, model)
            for split in _SPLITS:
                watch.dataloader(Runner.build_dataloader, cfg[f"{split}_dataloader"])
                if split != "train":
                    watch.evaluator(Evaluator, cfg[f"{split}_evaluator"])
    except UserError as error:
        raise UserError(as_target(error)) from error
    return [as_target(line) for line in warnings], sum(p.numel() for p in model.parameters())


def _built(model: dict):
    try:
        return MODELS.build(model)
    except UserError:
        raise
    # A constructor raises whatever it likes where an option doesn't fit it.
    except Exception as error:
        raise UserError(f"the network can't be built: {reason(error)}") from error
