"""``attn-mm test``: evaluate a checkpoint with its config's own metrics."""

from __future__ import annotations

import argparse
import os.path as osp

from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks import framework_of
from attn_mm.frameworks.mmpretrain.steps import add_steps_flag, choose_steps, predict_by, shown_steps
from attn_mm.graft.early_stop import feedback_steps
from attn_mm.run.check_config import check_config
from attn_mm.run.launch import build_runner, open_config
from attn_mm.run.loaded import CheckLoaded, unwrapped
from attn_mm.run.mistakes import mistakes_of
from attn_mm.run.options import RunOptions, add_common_flags
from attn_mm.run.results import KeepMetrics, write_results
from attn_mm.run.screen.summary import show_lines, show_metrics
from attn_mm.run.screen.watch import watching
from attn_mm.utils.files import check_checkpoint, make_folder
from attn_mm.utils.flags import from_args
from attn_mm.utils.parser import CommandParser

_DESCRIPTION = """\
Evaluate a checkpoint on its config's test set.

  %(prog)s configs/fcos_tdaf_r50.py work_dirs/fcos_tdaf_r50/epoch_24.pth
  %(prog)s configs/fcos_tdaf_r50.py work_dirs/fcos_tdaf_r50_demo/epoch_10.pth --demo
  %(prog)s configs/tdaf/r50_tdaf-anar3_120e_in1k.py epoch_100.pth --tta         averages ten crops
  %(prog)s configs/td/r50_td-joint_125e_in1k.py epoch_125.pth --steps any       the TD paper's protocol
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    add_common_flags(parser)
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation: average over the config's tta_pipeline"
    )
    add_steps_flag(parser)
    parser.add_argument("--out", metavar="FILE.pkl", help="also write the predictions to this file")
    parser.add_argument(
        "--show", action="store_true", help="show every image with its predictions in a window"
    )
    parser.add_argument("--show-dir", metavar="DIR", help="write every image with its predictions here")
    parser.add_argument(
        "--wait-time", type=float, default=2, help="seconds to show each image (default: %(default)s)"
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def _dump(cfg: Config, out: str) -> None:
    """Let the config also write the predictions to the file ``out``."""
    if not out.endswith((".pkl", ".pickle")):
        raise UserError(f"--out {out}: the file name must end in .pkl or .pickle")
    evaluator = cfg.test_evaluator
    metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    cfg.test_evaluator = [*metrics, ConfigDict(type="mmengine.DumpResults", out_file_path=out)]


def _augment(cfg: Config, name: str, demo: bool) -> None:
    """Turn on test-time augmentation: wrap the model in ``tta_model`` and test on the ``tta_pipeline``."""
    if demo or "tta_model" not in cfg or "tta_pipeline" not in cfg:
        which = "the demo" if demo else name
        raise UserError(f"--tta needs a tta_model and a tta_pipeline, and {which} has none")
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def _by_steps(cfg: Config, name: str, steps: str | None, tta: bool) -> str:
    """Let the config's classifier be evaluated by the protocol ``steps``, and return it."""
    if steps and cfg.get("default_scope") != "mmpretrain":
        raise UserError(
            f"--steps needs an mmpretrain classifier, and {name} is for {cfg.get('default_scope')}"
        )
    protocol = choose_steps(cfg, steps)
    if protocol != "last" and tta:
        raise UserError(
            f"--steps {protocol} evaluates one view of each image: use it without --tta, or use --steps last"
        )
    return protocol


def _predict_by_steps(runner: Runner, name: str, steps: str | None, protocol: str) -> str | None:
    """Let the runner's model predict by the protocol, and return it; None if the network has no steps."""
    model = unwrapped(runner.model)
    if steps is None and feedback_steps(model) == 1:
        return None
    predict_by(model, protocol, name)
    return protocol


def _show(cfg: Config, name: str, in_window: bool, folder: str | None, wait_time: float) -> None:
    """Let the config's visualization hook show every image, write it into a folder, or both."""
    hook = cfg.get("default_hooks", {}).get("visualization") or ConfigDict()
    known = framework_of(cfg, "--show").show_hook
    if known is None or str(hook.get("type")).rpartition(".")[2] != known.type:
        needed = known.type if known else "visualization hook"
        raise UserError(f"--show and --show-dir need a {needed}, and {name} has none")
    # The hooks put a relative folder into itself, once more for each batch.
    out = str(make_folder(osp.abspath(folder))) if folder else None
    hook.update({known.switch: True, "show": in_window, "wait_time": wait_time})
    if known.folder:
        hook[known.folder] = out
    elif out:
        cfg.setdefault("visualizer", ConfigDict(type="Visualizer"))["save_dir"] = out
    if known.has_interval:
        hook.interval = 1


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    check_checkpoint(args.checkpoint)
    cfg = open_config(args.config, from_args(RunOptions, args))
    # The config that a resumed training leaves asks for resuming.
    cfg.load_from, cfg.resume = args.checkpoint, False
    protocol = _by_steps(cfg, args.config, args.steps, args.tta)
    if args.tta:
        _augment(cfg, args.config, args.demo)
    if args.show or args.show_dir:
        _show(cfg, args.config, args.show, args.show_dir, args.wait_time)
    if args.out:
        _dump(cfg, args.out)
    check_config(cfg, ("test",))
    check_data(cfg, ("test",))
    metrics = KeepMetrics()
    with watching(args.verbose) as screen, mistakes_of(cfg) as progress:
        runner = build_runner(cfg, screen)
        runner.register_hook(progress)
        runner.register_hook(metrics)
        runner.register_hook(CheckLoaded(testing=True))
        steps = _predict_by_steps(runner, args.config, args.steps, protocol)
        runner.test()
    if runner.rank == 0:
        about = {"steps": steps} if steps else {}
        figures = write_results(runner, "test_results.json", metrics, checkpoint=args.checkpoint, **about)
        show_metrics(osp.splitext(osp.basename(args.config))[0], metrics.latest or {})
        show_lines({"figures": figures, "log": runner.logger.log_file})
        if steps:
            print(shown_steps(steps))
