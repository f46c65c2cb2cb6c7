"""Shows on the screen what a run does, how far it is, and what its evaluations give."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.console import Console
from rich.progress import TaskID
from torch.utils.data import DataLoader

from attn_mm.run.loaded import unwrapped
from attn_mm.run.screen.messages import Printed, show_on
from attn_mm.run.screen.table import EvaluationTable
from attn_mm.utils.config import type_name, walk
from attn_mm.utils.progress import Bars, console_of, duration, progress_bar

STEPS_BEFORE_ESTIMATE = 10
"""Steps after which the training's duration is estimated."""
# Seconds between two pictures of the live line, and steps over which its loss is averaged.
_REFRESH, _LOSS_OVER = 0.2, 10
# Types that hold what attends.
_HOLDERS = ("AttnBackbone", "AttnNeck")


class Screen(Hook):
    """Shows what is trained or tested, a live line, and a row for each evaluation.

    Where the screen is no terminal, a line every half minute takes the live line's place. Of several
    processes only the first one shows anything.

    Args:
        console: the screen.
        bars: the live lines on it.
    """

    priority = "VERY_LOW"

    def __init__(self, console: Console, bars: Bars) -> None:
        self._console, self._bars = console, bars
        self._table = EvaluationTable(console)
        self._task: TaskID | None = None
        self._refreshed = self._began = 0.0
        self._done_before = 0

    def quiet(self, kind: type[Runner]) -> type[Runner]:
        """A subclass of a runner's class whose log reaches the screen only where it is worth it."""
        console = self._console

        class Quiet(kind):
            def build_logger(self, *args, **kwargs) -> MMLogger:
                logger = super().build_logger(*args, **kwargs)
                show_on(logger, console)
                return logger

        Quiet.__name__, Quiet.__module__ = kind.__name__, kind.__module__
        return Quiet

    def before_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        self._done_before = runner.iter
        samples = _samples(runner.train_dataloader)
        if runner.val_loop is not None:
            samples += f", evaluated on {len(runner.val_dataloader.dataset):,}"
        steps = f"{runner.max_iters:,} steps"
        # A sampler of batches has none.
        if batch := runner.train_dataloader.batch_size:
            steps += f" of {batch * get_world_size()}"
        self._introduce("training", runner, f"{samples}; {steps}")

    def before_train_epoch(self, runner: Runner) -> None:
        self._show("training", runner.max_iters, runner.iter)

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        if not is_main_process():
            return
        steps, now = runner.iter + 1 - self._done_before, time.monotonic()
        if steps == 1:
            # The first one takes longer.
            self._began = now
        elif steps == STEPS_BEFORE_ESTIMATE:
            left = (now - self._began) / (steps - 1) * (runner.max_iters - self._done_before)
            self._console.out(f"about {duration(left)} of training")
        if self._task is None:
            # After a validation.
            self._show("training", runner.max_iters, runner.iter)
        self._advance(f"loss {_loss(runner):.4g}")

    def before_val_epoch(self, runner: Runner) -> None:
        self._show("evaluating", len(runner.val_dataloader))

    def after_val_iter(self, runner: Runner, *_, **__) -> None:
        self._advance()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._hide()
        if is_main_process():
            by_step = isinstance(runner._train_loop, IterBasedTrainLoop)
            place = {"step": runner.iter} if by_step else {"epoch": runner.epoch}
            self._table.add({**place, "loss": _loss(runner)}, metrics or {})

    def after_train(self, runner: Runner) -> None:
        self._hide()

    def before_test_epoch(self, runner: Runner) -> None:
        if is_main_process():
            self._introduce("testing", runner, _samples(runner.test_dataloader))
            self._show("testing", len(runner.test_dataloader))

    def after_test_iter(self, runner: Runner, *_, **__) -> None:
        self._advance()

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._hide()

    def _introduce(self, doing: str, runner: Runner, data: str) -> None:
        model = unwrapped(runner.model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        lines = {
            doing: Path(runner.cfg.filename or runner.work_dir).stem,
            "model": f"{_model_name(runner.cfg)}, {parameters:,} parameters",
            "data": data,
            "on": _device(),
        }
        for name, value in lines.items():
            self._console.out(f"{name:>10}  {value}")

    def _show(self, description: str, total: int, done: int = 0) -> None:
        """Make this the only live line."""
        self._hide()
        if is_main_process():
            self._task = self._bars.add_task(description, total=total, completed=done)

    def _hide(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
            self._bars.refresh()

    def _advance(self, note: str = "") -> None:
        if self._task is None:
            return
        self._bars.update(self._task, advance=1, note=note)
        if time.monotonic() - self._refreshed >= _REFRESH:
            self._refreshed = time.monotonic()
            self._bars.refresh()


@contextlib.contextmanager
def watching(verbose: bool = False) -> Iterator[Screen | None]:
    """A screen for the runs in this context; None if ``verbose``, when mmengine shows its whole log."""
    if verbose:
        yield None
        return
    console = console_of(sys.stdout)
    options = dict(redirect_stdout=False, redirect_stderr=sys.stderr.isatty())
    # Without a thread of its own: the processes that load data are forked, and would inherit its lock.
    bars = progress_bar(console, auto_refresh=False, transient=True, **options)
    printed = Printed(console)
    with contextlib.redirect_stdout(printed), bars:
        try:
            yield Screen(console, bars)
        finally:
            printed.finish()


def _model_name(cfg: Config) -> str:
    """The model's type and the attention in its config."""
    name = type_name(cfg.model) if "type" in cfg.model else "a model"
    kinds = [node.type.removeprefix("attn_mm.") for node in walk(cfg.model) if _is_ours(node.get("type"))]
    attention = [kind for kind in dict.fromkeys(kinds) if kind not in _HOLDERS]
    return f"{name} with {', '.join(attention)}" if attention else name


def _is_ours(kind: object) -> bool:
    return isinstance(kind, str) and kind.startswith("attn_mm.")


def _loss(runner: Runner) -> float:
    """The mean loss of the last steps; NaN if the model gives none under this name."""
    history = runner.message_hub.log_scalars.get("train/loss")
    return float(history.mean(_LOSS_OVER)) if history else float("nan")


def _samples(loader: DataLoader) -> str:
    """How many samples of which kind a loader has; a stream doesn't say how many."""
    dataset: Any = loader.dataset
    number = f"{len(dataset):,} " if hasattr(dataset, "__len__") else ""
    return f"{number}samples of {type(dataset).__name__}"


def _device() -> str:
    processes = f", {get_world_size()} processes" if get_world_size() > 1 else ""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name() + processes
    return f"the CPU, threads: {torch.get_num_threads()}{processes}"
