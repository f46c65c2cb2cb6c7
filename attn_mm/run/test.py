"""``tools/test.py``: evaluate a checkpoint with its config's own metrics."""

from __future__ import annotations

import argparse
import os.path as osp

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import watch_data
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks import framework_of
from attn_mm.run.launch import add_common_flags, build_runner, open_config
from attn_mm.run.results import KeepMetrics, write_results
from attn_mm.utils.files import check_checkpoint

_DESCRIPTION = """\
Evaluate a checkpoint on its config's test set.

  test.py configs/fcos_tdaf_r50.py work_dirs/fcos_tdaf_r50/epoch_24.pth
  test.py configs/fcos_tdaf_r50.py work_dirs/fcos_tdaf_r50_demo/epoch_10.pth --demo
  test.py configs/tdaf/r50_tdaf-anar3_100e_in1k.py epoch_100.pth --tta         the average over ten crops
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    add_common_flags(parser)
    parser.add_argument("--tta", action="store_true", help="average over the config's tta_pipeline")
    parser.add_argument("--out", metavar="FILE.pkl", help="dump the predictions, too")
    parser.add_argument("--show", action="store_true", help="show every picture with its predictions")
    parser.add_argument("--show-dir", metavar="DIR", help="write every picture with its predictions here")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds a picture is shown for")
    return parser.parse_args(argv)


def _apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    cfg.load_from = args.checkpoint
    if args.tta:
        _augment(cfg, args)
    if args.show or args.show_dir:
        _show(cfg, args)
    if args.out:
        if not args.out.endswith((".pkl", ".pickle")):
            raise UserError(f"--out {args.out}: the file's name must end in .pkl or .pickle")
        evaluator = cfg.test_evaluator
        metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
        cfg.test_evaluator = [*metrics, ConfigDict(type="mmengine.DumpResults", out_file_path=args.out)]


def _augment(cfg: Config, args: argparse.Namespace) -> None:
    """Put the config's model into its ``tta_model``, on what its ``tta_pipeline`` makes of an image."""
    if args.demo or "tta_model" not in cfg or "tta_pipeline" not in cfg:
        which = "the demo" if args.demo else args.config
        raise UserError(f"--tta needs a tta_model and a tta_pipeline, and {which} has none")
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _show(cfg: Config, args: argparse.Namespace) -> None:
    hook = cfg.get("default_hooks", {}).get("visualization") or ConfigDict()
    known = framework_of(cfg, "--show").show_hook
    if known is None or str(hook.get("type")).rpartition(".")[2] != known.type:
        needed = known.type if known else "hook that draws"
        raise UserError(f"--show and --show-dir need a {needed}, and {args.config} has none")
    # The hooks put a relative folder into itself, once more for each batch.
    out = osp.abspath(args.show_dir) if args.show_dir else None
    hook.update({known.switch: True, known.folder: out, "show": args.show, "wait_time": args.wait_time})
    if known.has_interval:
        hook.interval = 1


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    check_checkpoint(args.checkpoint)
    cfg = open_config(args)
    _apply_flags(cfg, args)
    check_data(cfg, ("test",))
    runner = watch_data(build_runner(cfg))
    metrics = KeepMetrics()
    runner.register_hook(metrics)
    runner.test()
    if runner.rank == 0:
        write_results(runner, "test_results.json", metrics, checkpoint=args.checkpoint)
