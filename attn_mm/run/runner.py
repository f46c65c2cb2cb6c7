"""mmengine's runner, which here saves what an exact continuation needs, and saves on SIGTERM."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import all_reduce, get_backend, get_rank, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import FUNCTIONS, LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from attn_mm.errors import CheckpointError, Terminated, UserError, is_out_of_memory
from attn_mm.run.loops import EpochLoop, IterLoop, StopValidation
from attn_mm.run.saved_state import (
    PROGRESS,
    check_optimizer,
    check_place,
    check_saved_state,
    check_schedulers,
)
from attn_mm.utils.config import reason
from attn_mm.utils.files import write_atomically
from attn_mm.utils.signals import StopRequest, init_worker, stop_request

INTERRUPTED = "interrupted.pth"
"""The checkpoint that a run saves on SIGTERM; the next regular one replaces it."""

_LOOPS: dict[type, type[EpochLoop | IterLoop]] = {
    EpochBasedTrainLoop: EpochLoop,
    IterBasedTrainLoop: IterLoop,
}


class ResumableRunner(Runner):
    """A runner whose training can stop anywhere and continues with the same results.

    Beside the weights and the optimizer a checkpoint has the random number generators' state of every
    process, the place in the epoch, and whether its validation was done. A config's own training loop is
    used as it is, and SIGTERM ends it at once.

    Attributes:
        stop: whether SIGTERM has arrived.
    """

    def __init__(self, *args, **kwargs) -> None:
        self.stop = StopRequest()
        self._group: Any = None
        super().__init__(*args, **kwargs)

    def train(self) -> nn.Module:
        if not isinstance(self.train_loop, (EpochLoop, IterLoop)):
            return super().train()
        if is_distributed() and get_backend() != "gloo":
            # The processes agree to stop without waiting for a GPU.
            self._group = torch.distributed.new_group(backend="gloo")
        self.register_hook(StopValidation())
        with stop_request() as self.stop:
            return super().train()

    def build_logger(self, *args, **kwargs) -> MMLogger:
        # Without a size to rotate at it is the plain handler, but one that takes an encoding.
        handler = {"type": "RotatingFileHandler", "encoding": "utf-8", "errors": "backslashreplace"}
        return super().build_logger(*args, **{"file_handler_cfg": handler, **kwargs})

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        if not isinstance(loop, dict) or ("type" in loop) == ("by_epoch" in loop):
            return super().build_train_loop(loop)
        options = copy.deepcopy(loop)
        if "type" in options:
            kind = options.pop("type")
            kind = LOOPS.get(kind) if isinstance(kind, str) else kind
        else:
            kind = EpochBasedTrainLoop if options.pop("by_epoch") else IterBasedTrainLoop
        if kind not in _LOOPS:
            return super().build_train_loop(loop)
        return super().build_train_loop({"type": _LOOPS[kind], **options})

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            dataloader["worker_init_fn"] = {"type": init_worker, "init": _own_init(dataloader, seed)}
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def save_checkpoint(self, out_dir: str, filename: str, *args, meta: dict | None = None, **kwargs) -> None:
        if isinstance(self.train_loop, (EpochLoop, IterLoop)):
            meta = {**(meta or {}), PROGRESS: self.train_loop.progress()}
        super().save_checkpoint(out_dir, filename, *args, meta=meta, **kwargs)
        if is_main_process() and kwargs.get("save_optimizer", True) and filename != INTERRUPTED:
            Path(self.work_dir, INTERRUPTED).unlink(missing_ok=True)

    def resume(self, filename: str, *args, **kwargs) -> None:
        try:
            super().resume(filename, *args, **kwargs)
        except (UserError, CheckpointError):
            raise
        except Exception as error:
            # Optimizers and schedulers raise whatever they like where a saved state doesn't fit them.
            if is_out_of_memory(error):
                raise
            raise UserError(f"{filename} can't be resumed: {reason(error)}") from error
        check_optimizer(self, filename)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        if not self._resume:
            return checkpoint
        check_saved_state(checkpoint, filename)
        check_place(self, checkpoint, filename)
        if self.param_schedulers is not None:
            check_schedulers(self.param_schedulers, checkpoint.get("param_schedulers"), filename)
        progress = checkpoint["meta"].get(PROGRESS)
        if progress and isinstance(self.train_loop, (EpochLoop, IterLoop)):
            self.train_loop.resume(progress)
        return checkpoint

    def stop_if_asked(self) -> None:
        """If any process of the run has received SIGTERM, save and end; every process has to call it."""
        asked = torch.tensor(int(self.stop.received))
        if is_distributed():
            all_reduce(asked, "max", self._group)
        if asked:
            self.save_and_stop()

    def save_and_stop(self) -> NoReturn:
        """Save a checkpoint between two steps, and end.

        Raises:
            Terminated: always.
        """
        meta = {"epoch": self.epoch, "iter": self.iter}
        self.save_checkpoint(self.work_dir, INTERRUPTED, meta=meta)
        path = Path(self.work_dir, INTERRUPTED)
        if is_main_process():
            write_atomically(Path(self.work_dir, "last_checkpoint"), str(path))
        raise Terminated(f"saved {path}; repeat the command with --resume to continue")


def _own_init(dataloader: dict, seed: int | None) -> Callable[[int], None] | None:
    """Take the function that initialises a loading process out of a loader's config, or mmengine's."""
    own = dataloader.pop("worker_init_fn", None)
    quiet = dataloader.pop("disable_subprocess_warning", False)
    if own is not None:
        kind = own.pop("type")
        return partial(FUNCTIONS.get(kind) if isinstance(kind, str) else kind, **own)
    if seed is None:
        return None
    workers = dataloader.get("num_workers")
    return partial(
        worker_init_fn, num_workers=workers, rank=get_rank(), seed=seed, disable_subprocess_warning=quiet
    )
