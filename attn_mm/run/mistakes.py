"""What fails before a run has done anything once is a mistake in its config, and is told in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from attn_mm.errors import CheckpointError, UserError, is_disk_full, is_out_of_memory
from attn_mm.utils.config import reason


class Progress(Hook):
    """Notes which part of a run is running for the first time.

    Attributes:
        untried: its name; None once it has been done.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self.untried: str | None = "start"
        self._done: set[str] = set()

    def _begin(self, part: str) -> None:
        self.untried = None if part in self._done else part

    def _end(self, part: str) -> None:
        self._done.add(part)
        self.untried = None

    def before_train_iter(self, runner: Runner, *_, **__) -> None:
        self._begin("first training step")

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        self._end("first training step")

    def after_train_epoch(self, runner: Runner) -> None:
        self._begin("end of the first epoch")

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.epoch:
            self._end("end of the first epoch")

    def before_val_epoch(self, runner: Runner) -> None:
        self._begin("first validation")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._end("first validation")

    def before_test_epoch(self, runner: Runner) -> None:
        self._begin("test")

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._end("test")


@contextlib.contextmanager
def mistakes_of(cfg: Config) -> Iterator[Progress]:
    """In this context, an error in a part of the run that never worked is a UserError that names the config.

    Constructors and first steps raise whatever they like where options don't fit together. Whatever fails
    later is a bug and keeps its traceback.

    Yields:
        the hook that the runner needs.
    """
    progress = Progress()
    try:
        yield progress
    except (UserError, CheckpointError):
        raise
    except Exception as error:
        if progress.untried is None or is_disk_full(error) or is_out_of_memory(error):
            raise
        said = f"{reason(error)} (for the traceback: python -X dev)"
        resumed = f", resumed from {cfg.load_from}," if cfg.get("resume") and cfg.get("load_from") else ""
        raise UserError(f"the {progress.untried} of {cfg.filename}{resumed} fails: {said}") from error
