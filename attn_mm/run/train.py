"""``tools/train.py``: train any OpenMMLab config."""

from __future__ import annotations

import argparse

from attn_mm.errors import reports_user_errors
from attn_mm.run.options import RunOptions, add_common_flags
from attn_mm.utils.flags import from_args

_DESCRIPTION = """\
Train any mmdet, mmpose, mmaction2, mmpretrain or mmsegmentation config, with or without attention.

  train.py configs/fcos_tdaf_r50.py --demo               try it: no data, no download, minutes on a CPU
  train.py configs/fcos_tdaf_r50.py                      train on COCO 2017 in data/coco
  train.py configs/fcos_tdaf_r50.py --data-root DIR --no-pretrained
  train.py configs/fcos_tdaf_r50.py --resume             continue from the last checkpoint in the work dir
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
    return parser.parse_args(argv)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    # The runner takes as long to import as torch: --help needs none of it.
    from attn_mm.run.training import train

    train(
        args.config,
        from_args(RunOptions, args),
        pretrained=not args.no_pretrained,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        resume=args.resume,
    )
