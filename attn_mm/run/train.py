"""``attn-mm train``: train any OpenMMLab config."""

from __future__ import annotations

import argparse

from attn_mm.errors import reports_user_errors
from attn_mm.run.options import RunOptions, add_common_flags
from attn_mm.utils.flags import count, from_args
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.threads import sleep_while_waiting

_DESCRIPTION = """\
Train any mmdet, mmpose, mmaction2, mmpretrain or mmsegmentation config, with or without attention.

  %(prog)s configs/fcos_tdaf_r50.py --demo               try it: no data, no download, minutes on a CPU
  %(prog)s configs/fcos_tdaf_r50.py                      train on COCO 2017 in data/coco
  %(prog)s configs/fcos_tdaf_r50.py --data-root DIR --no-pretrained
  %(prog)s configs/fcos_tdaf_r50.py --resume             continue from the last checkpoint in the work dir
  %(prog)s configs/tam/r50_tam_300e_cifar100.py --seeds 0 1 2        three runs, and a table "mean (std)"
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", help="config file")
    add_common_flags(parser)
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="train from scratch: download no weights and freeze no layers",
    )
    parser.add_argument("--amp", action="store_true", help="use automatic mixed precision (needs CUDA)")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the total batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="resume from this checkpoint or, without a value, from the latest one in the work dir",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=count,
        metavar="N",
        help="train once with each of these seeds, in a folder of the work dir each, and write mean and "
        "standard deviation; repeat the command to continue an unfinished one",
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.seeds and args.resume:
        parser.error("--seeds continues unfinished runs itself: leave --resume out")
    if args.seeds and len(set(args.seeds)) < len(args.seeds):
        parser.error("--seeds has a seed twice")
    return args


@reports_user_errors
def main(argv=None) -> None:
    sleep_while_waiting()
    args = parse_args(argv)
    options = from_args(RunOptions, args)
    changes = dict(pretrained=not args.no_pretrained, amp=args.amp, auto_scale_lr=args.auto_scale_lr)
    # The runner takes as long to import as torch: --help needs none of it.
    if args.seeds:
        from attn_mm.run.seeds import train_seeds

        train_seeds(args.config, options, args.seeds, **changes)
    else:
        from attn_mm.run.training import train

        train(args.config, options, args.resume, **changes)
