"""``attn-mm ltpa``: its command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.papers.ltpa import demo
from attn_mm.papers.ltpa.contrast import ContrastOptions, contrast
from attn_mm.papers.ltpa.fooling import FoolOptions, fool
from attn_mm.papers.ltpa.nets import open_nets
from attn_mm.papers.ltpa.query import QueryOptions, query
from attn_mm.papers.ltpa.segment import WAYS, SegmentOptions, segment
from attn_mm.papers.ltpa.transfer import TransferOptions, transfer
from attn_mm.utils.extras import require
from attn_mm.utils.flags import above_zero, add_device_flag, add_options_flag, count, from_args, positive
from attn_mm.utils.output import Output
from attn_mm.utils.parser import CommandParser

_DESCRIPTION = """\
Repeat the analyses of "Learn to pay attention" (Jetley et al., ICLR 2018) on trained mmpretrain classifiers.

  %(prog)s fool      how often the fast gradient sign method changes the prediction (figures 5 and 6)
  %(prog)s transfer  accuracy of a linear SVM on the features of other image sets (table 3)
  %(prog)s segment   objects segmented by the attention, compared with masks (figures 8 and 9)
  %(prog)s query     how attention changes with another image's global feature (figure 10)
  %(prog)s contrast  attention beside activation-based maps (figure 3)

ANALYSIS --help explains the options. ANALYSIS --demo runs an analysis on generated images, without data or
download. docs/ltpa_analyses.md explains the measurements.
"""

_FOOL = """\
Measure the share of test images whose predicted class changes under a small perturbation. Each pixel moves
up or down by 1, 2, 4, 8 or 16 of 255, in the direction that makes the class less likely. The images come
from each config's test set. After an interruption, repeat the command to continue where it stopped.

  %(prog)s fool --demo
  %(prog)s fool vgg.py vgg.pth vgg_att2.py vgg_att2.pth --pictures 3
"""

_TRANSFER = """\
Test a network's features on image sets that it was not trained for. A linear SVM (C = 1) classifies the
input of the last linear layer; the result is the mean accuracy over five folds. A set is a folder with a
subfolder of images for each class, or Stanford's Action-40. Caltech's background folder is no class. Images
are made square and, as in the paper, ZCA-whitened. After an interruption, repeat the command to continue
where it stopped.

  %(prog)s transfer --demo
  %(prog)s transfer vgg.py vgg.pth vgg_att2.py vgg_att2.pth --sets event8/ caltech101/ Stanford40/ --no-zca
"""

_SEGMENT = """\
Segment objects with the attention of a network's last two levels, and compare them with true masks by the
Jaccard index (IoU). For a network without an attn_mm.LTPAHead, Grad-CAM replaces the attention. --by
activation segments with the activation-based map of the backbone's last map instead.

  %(prog)s segment --demo
  %(prog)s segment vgg_att2.py vgg_att2.pth --data ObjectDiscovery/Data --by attention activation
  %(prog)s segment vgg_att2.py vgg_att2.pth --data ObjectDiscovery/Data
  %(prog)s segment vgg_att2.py vgg_att2.pth --images-dir photos/ --masks-dir masks/ --size 96
"""

_QUERY = """\
Show where a network with an attn_mm.LTPAHead looks in a target image when the query, its global feature,
comes from another image.

  %(prog)s query --demo
  %(prog)s query vgg_att2_dp.py vgg_att2_dp.pth --queries dog.jpg --targets park/
"""

_CONTRAST = """\
Show the attention of each level beside the activation-based maps of the same features: the sum over the
channels of |A|^p (Zagoruyko & Komodakis, ICLR 2017).

  %(prog)s contrast --demo
  %(prog)s contrast vgg_att2.py vgg_att2.pth --targets photos/ --size 224
"""


ANALYSES: dict[str, tuple[Callable[..., None], type[Any]]] = {
    "fool": (fool, FoolOptions),
    "transfer": (transfer, TransferOptions),
    "segment": (segment, SegmentOptions),
    "query": (query, QueryOptions),
    "contrast": (contrast, ContrastOptions),
}
"""The function and the options of each analysis."""

# What --demo brings itself.
_BROUGHT = ("nets", "names", "sets", "data", "images_dir", "masks_dir", "queries", "targets", "data_root")


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    analyses = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")

    flags = _add(analyses, "fool", _FOOL)
    flags.add_argument(
        "--data-root", metavar="DIR", help="folder of the test set (default: from each config)"
    )
    flags.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="number of test images to use, evenly spaced (default: all)",
    )
    flags.add_argument(
        "--pictures",
        type=count,
        default=0,
        metavar="N",
        help="number of perturbed images to write (default: %(default)s)",
    )
    _add_batch_size(flags)

    flags = _add(analyses, "transfer", _TRANSFER)
    flags.add_argument(
        "--sets",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="image sets, each a folder with one subfolder per class",
    )
    flags.add_argument(
        "--no-zca",
        dest="zca",
        action="store_false",
        help="normalise images as in training instead of whitening them",
    )
    _add_size(flags)
    _add_batch_size(flags)

    flags = _add(analyses, "segment", _SEGMENT)
    flags.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of class folders with images and a folder GroundTruth each",
    )
    flags.add_argument("--images-dir", type=Path, metavar="DIR", help="folder of images; needs --masks-dir")
    flags.add_argument("--masks-dir", type=Path, metavar="DIR", help="folder of masks with the images' names")
    flags.add_argument(
        "--pictures",
        type=count,
        default=6,
        metavar="N",
        help="number of images to draw (default: %(default)s)",
    )
    flags.add_argument(
        "--by",
        nargs="+",
        choices=WAYS,
        default=["attention"],
        help="maps to segment with (default: attention)",
    )
    _add_power(flags)
    _add_size(flags)

    flags = _add(analyses, "query", _QUERY)
    flags.add_argument(
        "--queries", type=Path, nargs="+", metavar="IMAGE", help="images or folders that give the queries"
    )
    flags.add_argument("--targets", type=Path, nargs="+", metavar="IMAGE", help="the same")
    flags.add_argument(
        "--level",
        type=positive,
        metavar="L",
        help="attention level of the network, from 1 (default: the second last)",
    )
    _add_size(flags)

    flags = _add(analyses, "contrast", _CONTRAST)
    flags.add_argument("--targets", type=Path, nargs="+", metavar="IMAGE", help="images or folders")
    _add_power(flags)
    _add_size(flags)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def _add(analyses, name: str, description: str) -> argparse.ArgumentParser:
    parser = analyses.add_parser(name, description=description)
    parser.add_argument(
        "nets", nargs="*", metavar="CONFIG CHECKPOINT", help="one or several networks to compare"
    )
    parser.add_argument(
        "--demo", action="store_true", help="train small networks on generated images instead"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="one name per network, in order (default: the config names)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"output folder (default: outputs/ltpa_{name})"
    )
    add_device_flag(parser)
    add_options_flag(parser, "override values in every config, such as test_dataloader.dataset.split=train")
    return parser


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="resize images to squares of N pixels a side (default: the config's input size)",
    )


def _add_power(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--power",
        type=above_zero,
        default=2.0,
        metavar="P",
        help="exponent of activation-based maps (default: %(default)g)",
    )


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=positive, default=64, metavar="N", help="images per batch (default: %(default)s)"
    )


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    require("matplotlib")
    run, kind = ANALYSES[args.analysis]
    files, names, options = args.nets, args.names, from_args(kind, args)
    if args.demo:
        given = [name for name in _BROUGHT if getattr(args, name, None)]
        if given:
            raise UserError(f"--demo brings its own networks and images: leave {given[0]} out")
        files, names = demo.networks(args.analysis)
        options = replace(options, **demo.images(args.analysis))
    nets = open_nets(files, args.device, names, getattr(args, "size", None), args.cfg_options)
    run(nets, options, Output(args.out or Path("outputs", f"ltpa_{args.analysis}")))
