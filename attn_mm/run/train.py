"""``tools/train.py``: train any OpenMMLab config."""

from __future__ import annotations

import argparse
import time

import torch
from mmengine.config import Config

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import watch_data
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.run.demo_summary import finish_demo, more_figures
from attn_mm.run.launch import RunOptions, add_common_flags, build_runner, open_config
from attn_mm.run.results import KeepMetrics, write_results
from attn_mm.utils.config import drop_pretrained
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.flags import from_args

_DESCRIPTION = """\
Train any mmdet, mmpose, mmaction2 or mmpretrain config, with or without attention.

  train.py configs/fcos_tdaf_r50.py --demo               try it: no data, no download, minutes on a CPU
  train.py configs/fcos_tdaf_r50.py                      COCO 2017 in data/coco
  train.py configs/fcos_tdaf_r50.py --data-root DIR --no-pretrained
  train.py configs/fcos_tdaf_r50.py --resume             go on from the last checkpoint in the work dir
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    add_common_flags(parser)
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="train from scratch: fetch no weights, freeze no layer",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (CUDA)")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the real batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="resume from this checkpoint, or from the latest in the work dir",
    )
    return parser.parse_args(argv)


def _set_mixed_precision(cfg: Config) -> None:
    if not torch.cuda.is_available():
        raise UserError("--amp needs a CUDA device, and there is none")
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def _scale_learning_rate(cfg: Config, name: str) -> None:
    if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
        raise UserError(f"--auto-scale-lr: {name} sets no auto_scale_lr.base_batch_size")
    cfg.auto_scale_lr.enable = True


def _resume(cfg: Config, checkpoint: str) -> None:
    cfg.resume = True
    cfg.load_from = None if checkpoint == "auto" else checkpoint


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    started = time.monotonic()
    cfg = open_config(args.config, from_args(RunOptions, args))
    if args.no_pretrained:
        drop_pretrained(cfg)
    if args.amp:
        _set_mixed_precision(cfg)
    if args.auto_scale_lr:
        _scale_learning_rate(cfg, args.config)
    if args.resume:
        _resume(cfg, args.resume)
    if cfg.get("load_from"):
        check_checkpoint(cfg.load_from)
    check_data(cfg, ("train", "val"))
    runner = watch_data(build_runner(cfg))
    metrics = KeepMetrics()
    runner.register_hook(metrics)
    runner.train()
    if runner.rank == 0 and metrics.latest is not None:
        if args.demo:
            metrics.latest.update(more_figures(runner))
        write_results(runner, "results.json", metrics, epoch=runner.epoch, iteration=runner.iter)
        if args.demo:
            finish_demo(runner, metrics.latest, time.monotonic() - started)
