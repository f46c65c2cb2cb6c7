"""``attn-mm ablate``: train a config with several values of its options, and compare the networks."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from mmengine.config import Config

from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.frameworks.demo_schedule import set_schedule
from attn_mm.papers.presets import PRESETS
from attn_mm.run.ablation import NAME, ablate, variants
from attn_mm.run.demo_networks import TD, demo_config
from attn_mm.run.options import RunOptions, add_common_flags
from attn_mm.run.training import open_training
from attn_mm.run.vary import Options, split_vary
from attn_mm.utils.config import merge_options
from attn_mm.utils.extras import require
from attn_mm.utils.flags import from_args, positive
from attn_mm.utils.parser import CommandParser

_DESCRIPTION = """\
Train a config with every combination of some options' values, with several seeds, and write a table of means
and standard deviations, a plot, and JSON. After an interruption, repeat the command to continue where it
stopped; finished runs are kept.

  %(prog)s configs/tam/r50_tam_300e_cifar100.py --vary TAM.group_size=2,4,8 --plain --seeds 3
  %(prog)s configs/td/r50_td-joint_125e_in1k.py --vary TD.distance=0,1,2 --vary TD.mode=joint,top
  %(prog)s configs/tam/r18_tam_300e_cifar10.py --vary optim_wrapper.optimizer.lr=0.1,0.05 --data-root DIR
  %(prog)s --preset tam-fig2 --seeds 3
  %(prog)s configs/tam/r18_tam_300e_cifar10.py --preset tam-fig2 --demo    generated images, no download
  %(prog)s --demo                                                    small networks, minutes on a CPU
"""

_DEMO_VARY = ("TD.distance=0,1,2", "TD.mode=joint,top")
_DEMO_EPOCHS, _DEMO_CHANNELS = 4, 8


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _presets_text())
    parser.add_argument("config", nargs="?", help="config file (default: the preset's)")
    parser.add_argument(
        "--vary",
        action="append",
        metavar="KEY=V1,V2,...",
        help="an option and its values; KEY is TYPE.NAME of a part of the model, such as TAM.group_size, or "
        "a path in the config, such as optim_wrapper.optimizer.lr; may be repeated",
    )
    parser.add_argument("--preset", choices=PRESETS, metavar="NAME", help="a paper's study, see below")
    parser.add_argument(
        "--plain", action="store_true", help="also train the network without attention (presets do)"
    )
    parser.add_argument(
        "--seeds",
        type=positive,
        default=1,
        metavar="N",
        help="train each network with seeds 0 to N-1 (default: %(default)s)",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="validation metric to compare by (default: the first one)"
    )
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="train from scratch: download no weights and freeze no layers",
    )
    add_common_flags(parser)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.vary and args.preset:
        parser.error("--preset brings its own options: leave --vary out")
    if not (args.config or args.preset or args.demo):
        parser.error("give a config, --preset or --demo")
    if args.config and not (args.vary or args.preset):
        parser.error("give options with --vary KEY=V1,V2,..., or --preset")
    return args


def _presets_text() -> str:
    lines = [
        textwrap.fill(preset.source, 110, initial_indent=f"  {name:<26}", subsequent_indent=" " * 28)
        for name, preset in PRESETS.items()
    ]
    return "\n".join(["presets:", *lines])


def _open(config: str | None, options: RunOptions, pretrained: bool) -> Config:
    """Open the config to vary; without one, that of a small network with TD on generated images."""
    if config:
        return open_training(config, options, pretrained=pretrained)
    if options.data_root:
        raise UserError("--demo generates its own data set: remove --data-root")
    cfg = demo_config([TD], _DEMO_CHANNELS)
    set_schedule(cfg, _DEMO_EPOCHS, lr=1e-3)
    cfg.launcher = options.launcher
    merge_options(cfg, options.cfg_options or {})
    return cfg


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    require("matplotlib")
    preset = PRESETS.get(args.preset)
    config = args.config or (preset.config if preset else None)
    given = preset.vary if preset else args.vary or _DEMO_VARY
    try:
        wanted = [split_vary(text) for text in given]
    except ValueError as error:
        raise UserError(f"--vary: {error}") from error
    cfg = _open(config, from_args(RunOptions, args), not args.no_pretrained)
    known = Options(cfg)
    options = [known.find(key, values) for key, values in wanted]
    plain = args.plain or (preset.plain if preset else not args.vary)
    stem = "_".join(filter(None, (args.config and Path(args.config).stem, args.preset))) or "td"
    out = Path(args.work_dir or Path("work_dirs", f"{NAME}_{stem}" + ("_demo" if args.demo else "")))
    with resumable():
        ablate(cfg, variants(cfg, options, plain), range(args.seeds), out, args.metric, args.verbose)
