"""Train a config with the options from the command line."""

from __future__ import annotations

import time

import torch
from mmengine.config import Config

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError
from attn_mm.run.demo_summary import finish_demo, more_figures
from attn_mm.run.launch import build_runner, open_config
from attn_mm.run.loaded import CheckLoaded
from attn_mm.run.options import RunOptions
from attn_mm.run.results import KeepMetrics, write_results
from attn_mm.utils.config import drop_pretrained
from attn_mm.utils.files import check_checkpoint


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


def _resume(cfg: Config, checkpoint: str) -> None:
    cfg.resume = True
    cfg.load_from = None if checkpoint == "auto" else checkpoint


def train(
    config: str,
    options: RunOptions,
    pretrained: bool = True,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
) -> None:
    """Train a config and write the metrics of its last evaluation into its work dir.

    Args:
        config: path of the config.
        options: changes to the config.
        pretrained: whether to load pretrained weights and freeze layers as the config says.
        amp: use automatic mixed precision, which needs CUDA.
        auto_scale_lr: scale the learning rate with the total batch size.
        resume: checkpoint to resume from, or ``"auto"`` for the latest in the work dir.

    Raises:
        UserError: an argument or the data is invalid.
    """
    started = time.monotonic()
    cfg = open_config(config, options)
    if not pretrained:
        drop_pretrained(cfg)
    if amp:
        _set_mixed_precision(cfg)
    if auto_scale_lr:
        _scale_learning_rate(cfg, config)
    if resume:
        _resume(cfg, resume)
    if cfg.get("load_from"):
        check_checkpoint(cfg.load_from)
    check_data(cfg, ("train", "val"))
    runner = build_runner(cfg)
    metrics = KeepMetrics()
    runner.register_hook(metrics)
    runner.register_hook(CheckLoaded())
    runner.train()
    if runner.rank == 0 and metrics.latest is not None:
        if options.demo:
            metrics.latest.update(more_figures(runner))
        write_results(runner, "results.json", metrics, epoch=runner.epoch, iteration=runner.iter)
        if options.demo:
            finish_demo(runner, metrics.latest, time.monotonic() - started)
