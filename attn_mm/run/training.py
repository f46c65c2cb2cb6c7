"""Train a config with the options from the command line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError, resumable
from attn_mm.run.check_config import check_config
from attn_mm.run.demo_summary import finish_demo, more_figures
from attn_mm.run.finite_weights import FiniteWeights
from attn_mm.run.launch import build_runner, in_first_process, join_processes, open_config
from attn_mm.run.loaded import CheckLoaded
from attn_mm.run.mistakes import mistakes_of
from attn_mm.run.options import RunOptions
from attn_mm.run.results import KeepMetrics, write_results
from attn_mm.run.resume import last_checkpoint, resume_from
from attn_mm.run.screen.summary import show_lines
from attn_mm.run.screen.watch import watching
from attn_mm.utils.config import drop_pretrained
from attn_mm.utils.files import check_checkpoint, make_folder, remove_parts
from attn_mm.utils.locks import sole_user
from attn_mm.utils.progress import duration

_INTERRUPTED = "repeat the command with --resume to continue from the last checkpoint"


def _set_mixed_precision(cfg: Config) -> None:
    if not torch.cuda.is_available():
        raise UserError("--amp needs a CUDA device, and none was found: leave it out")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def _scale_learning_rate(cfg: Config, name: str) -> None:
    if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
        raise UserError(
            f"--auto-scale-lr: {name} sets no auto_scale_lr.base_batch_size; set it with --cfg-options"
        )
    cfg.auto_scale_lr.enable = True


@contextlib.contextmanager
def sole_run(cfg: Config) -> Iterator[None]:
    """Keep other runs out of the work dir; UserError if there is one already."""
    folder, lock = Path(cfg.work_dir), contextlib.ExitStack()

    def enter() -> None:
        lock.enter_context(sole_user(make_folder(folder), "--work-dir"))
        remove_parts(folder)

    with lock:
        in_first_process(enter)
        yield


def open_training(
    config: str,
    options: RunOptions,
    pretrained: bool = True,
    amp: bool = False,
    auto_scale_lr: bool = False,
) -> Config:
    """Open a config with what a command line says of its training.

    Args:
        config: path of the config.
        options: changes to the config.
        pretrained: whether to load pretrained weights and freeze layers as the config says.
        amp: use automatic mixed precision, which needs CUDA.
        auto_scale_lr: scale the learning rate with the total batch size.

    Raises:
        UserError: an argument is invalid.
    """
    cfg = open_config(config, options)
    if not pretrained:
        drop_pretrained(cfg)
    if amp:
        _set_mixed_precision(cfg)
    if auto_scale_lr:
        _scale_learning_rate(cfg, config)
    return cfg


def check_training(cfg: Config) -> None:
    """Check a config before its training; UserError if it, its data or the weights to load are invalid."""
    if cfg.get("load_from"):
        check_checkpoint(cfg.load_from)
    check_config(cfg, ("train", "val"))
    check_data(cfg, ("train", "val"))


def fit(cfg: Config, verbose: bool = False) -> tuple[Runner, KeepMetrics]:
    """Train a config, or continue its training.

    Args:
        cfg: the config.
        verbose: show mmengine's whole log on the screen.

    Returns:
        Its runner, and the metrics of its validations.
    """
    metrics = KeepMetrics()
    with watching(verbose) as screen, mistakes_of(cfg) as progress:
        runner = build_runner(cfg, screen)
        runner.register_hook(progress)
        runner.register_hook(FiniteWeights())
        runner.register_hook(metrics)
        runner.register_hook(CheckLoaded())
        runner.train()
    return runner, metrics


def train(
    config: str,
    options: RunOptions,
    resume: str | None = None,
    **changes: bool,
) -> None:
    """Train a config and write the metrics of its last evaluation into its work dir.

    Args:
        config: path of the config.
        options: changes to the config.
        resume: checkpoint to resume from, or ``"auto"`` for the latest in the work dir.
        changes: see :func:`open_training`.

    Raises:
        UserError: an argument or the data is invalid.
    """
    started = time.monotonic()
    cfg = open_training(config, options, **changes)
    if resume and resume != "auto":
        cfg.load_from = resume
    check_training(cfg)
    join_processes(cfg)
    with resumable(_INTERRUPTED), sole_run(cfg):
        if resume:
            resume_from(cfg, None if resume == "auto" else resume)
        elif cfg.get("resume"):
            resume_from(cfg, cfg.get("load_from"))
        runner, metrics = fit(cfg, options.verbose)
        if runner.rank != 0:
            return
        lines: dict[str, object] = {"checkpoint": last_checkpoint(runner.work_dir) or "none"}
        if metrics.latest is not None:
            if options.demo:
                metrics.latest.update(more_figures(runner))
            lines["figures"] = write_results(
                runner, "results.json", metrics, epoch=runner.epoch, iteration=runner.iter
            )
            if options.demo:
                finish_demo(runner, metrics.latest)
        show_lines({**lines, "log": runner.logger.log_file, "time": duration(time.monotonic() - started)})
