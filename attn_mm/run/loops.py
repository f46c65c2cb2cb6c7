"""mmengine's training loops, which here continue a resumed run exactly, and stop on SIGTERM."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from attn_mm.utils.random_state import random_state, set_random_state


class ValidationStopped(Exception):
    """SIGTERM has arrived during a validation."""


class StopValidation(Hook):
    """Ends a validation on SIGTERM, between two of its batches."""

    def after_val_iter(self, runner, *_, **__) -> None:
        if runner.stop.received:
            raise ValidationStopped


class _Resumable:
    """What both loops need beside their parents'.

    Attributes:
        batch: number of this epoch's batches that the network has been trained on; 0 between epochs.
        validated: whether the validation that was due has been done.
    """

    runner: Any
    val_begin: int
    val_interval: int
    _decide_current_val_interval: Callable[[], None]
    batch = 0
    validated = True
    _random_states: list | None = None
    _before_validation: list | None = None

    def progress(self) -> dict[str, Any]:
        """What a checkpoint needs beside mmengine's own entries; every process of the run has to call it."""
        random_states = self._before_validation or all_gather_object(random_state())
        stopping = [[hook.wait_count, float(hook.best_score)] for hook in self._early_stopping()]
        return {
            "random": random_states,
            "batch": self.batch,
            "validated": self.validated,
            "early_stopping": stopping,
        }

    def resume(self, progress: dict[str, Any]) -> None:
        """Continue from what :meth:`progress` returned."""
        self.batch, self.validated = progress["batch"], progress["validated"]
        self._random_states = progress["random"]
        for hook, (wait_count, best_score) in zip(self._early_stopping(), progress.get("early_stopping", ())):
            hook.wait_count, hook.best_score = wait_count, best_score

    def _early_stopping(self) -> list[EarlyStoppingHook]:
        """The hooks that count evaluations without improvement, and whose count mmengine doesn't save."""
        return [hook for hook in self.runner.hooks if isinstance(hook, EarlyStoppingHook)]

    def restore_randomness(self) -> None:
        """Set the random number generators to the checkpoint's state; a run on fewer processes had others."""
        if self._random_states and get_rank() < len(self._random_states):
            set_random_state(self._random_states[get_rank()])

    def validate(self) -> None:
        """Validate, so that a stop in between saves the state of before."""
        self._before_validation = all_gather_object(random_state())
        try:
            self.runner.val_loop.run()
        except ValidationStopped:
            for hook in self.runner.hooks:
                if isinstance(hook, EMAHook):
                    # It has exchanged the weights for their averages.
                    hook.after_val_epoch(self.runner)
            self.runner.save_and_stop()
        self._before_validation = None
        self.validated = True

    def validate_if_due(self, done: int, last: int) -> None:
        """Validate if mmengine would, after ``done`` of ``last`` epochs or iterations."""
        self._decide_current_val_interval()
        due = done >= self.val_begin and (done % self.val_interval == 0 or done == last)
        if self.runner.val_loop is not None and due:
            self.validate()


class EpochLoop(_Resumable, EpochBasedTrainLoop):
    """Training by epochs; a checkpoint from the middle of an epoch continues with the epoch's next batch."""

    def run(self):
        self.runner.call_hook("before_train")
        self.restore_randomness()
        if self._epoch and getattr(self.dataloader, "persistent_workers", False):
            self.runner.logger.warning(
                "persistent_workers=True: the random numbers of the loading processes start again, so the "
                "augmentation differs from that of a run without the stop"
            )
        if not self.validated and not self.batch:
            self.validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self.validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        self.validated = False
        batches = enumerate(self.dataloader)
        if self.batch:
            # Loading them again brings the processes that load into the state that they were in.
            for _ in itertools.islice(batches, self.batch):
                pass
            self.restore_randomness()
        for index, batch in batches:
            self.run_iter(index, batch)
        self.batch = 0
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        self.batch = idx + 1
        super().run_iter(idx, data_batch)
        self.runner.stop_if_asked()


class IterLoop(_Resumable, IterBasedTrainLoop):
    """Training by iterations."""

    def run(self):
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        if self._iter:
            self.runner.logger.info(f"Loading the {self._iter} batches before the checkpoint's again")
            for _ in range(self._iter):
                next(self.dataloader_iterator)
            self.restore_randomness()
            if not self.validated:
                self.validate_if_due(self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.validated = False
            self.run_iter(next(self.dataloader_iterator))
            self.validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        super().run_iter(data_batch)
        self.runner.stop_if_asked()
