"""The command line of ``tools/ltpa.py``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.papers.ltpa import demo
from attn_mm.papers.ltpa.fooling import FoolOptions, fool
from attn_mm.papers.ltpa.nets import open_nets
from attn_mm.papers.ltpa.query import QueryOptions, query
from attn_mm.papers.ltpa.segment import SegmentOptions, segment
from attn_mm.papers.ltpa.transfer import TransferOptions, transfer
from attn_mm.utils.extras import require
from attn_mm.utils.flags import add_device_flag, add_options_flag, count, from_args, positive
from attn_mm.utils.output import Output

_DESCRIPTION = """\
The analyses of "Learn to pay attention" (Jetley et al., ICLR 2018) on trained classifiers of mmpretrain.

  ltpa.py fool      how often the fast gradient sign method changes the prediction (figures 5 and 6)
  ltpa.py transfer  accuracy of a linear SVM on the features of other image sets (table 3)
  ltpa.py segment   objects segmented by the attention, against masks (figures 8 and 9)
  ltpa.py query     attention that another image's global feature asks for (figure 10)

ANALYSIS --help says more; ANALYSIS --demo shows each on generated pictures, without data or download.
docs/ltpa_analyses.md explains what is measured.
"""

_FOOL = """\
The share of test images whose predicted class changes when each pixel moves by 1, 2, 4, 8 or 16 of 255,
up or down, so that the class becomes less likely. The images are those of each config's test set. An
interrupted run goes on when the same command is given again.

  ltpa.py fool --demo
  ltpa.py fool vgg.py vgg.pth vgg_att2.py vgg_att2.pth --pictures 3
"""

_TRANSFER = """\
What a network has learnt, tried on sets that it has not been trained for: a linear SVM (C = 1) on the
input of the last linear layer, mean accuracy of five folds. A set is a folder with one of images for each
class. Images are made square and, as in the paper, ZCA-whitened. An interrupted run goes on when the same
command is given again.

  ltpa.py transfer --demo
  ltpa.py transfer vgg.py vgg.pth vgg_att2.py vgg_att2.pth --sets event8/ caltech101/ --no-zca
"""

_SEGMENT = """\
Segment objects by the attention of a network's last two levels and compare with masks by the Jaccard
index. Of a network without an attn_mm.LTPAHead Grad-CAM takes the attention's place.

  ltpa.py segment --demo
  ltpa.py segment vgg_att2.py vgg_att2.pth --data ObjectDiscovery/Data
  ltpa.py segment vgg_att2.py vgg_att2.pth --images-dir photos/ --masks-dir masks/ --size 96
"""

_QUERY = """\
Where a network with an attn_mm.LTPAHead looks in a target image when the global feature, its query, is
another image's.

  ltpa.py query --demo
  ltpa.py query vgg_att2_dp.py vgg_att2_dp.pth --queries dog.jpg --targets park/
"""


ANALYSES: dict[str, tuple[Callable[..., None], type[Any]]] = {
    "fool": (fool, FoolOptions),
    "transfer": (transfer, TransferOptions),
    "segment": (segment, SegmentOptions),
    "query": (query, QueryOptions),
}
"""What does each analysis, and what it takes from the command line."""

# What --demo brings itself.
_BROUGHT = ("nets", "names", "sets", "data", "images_dir", "masks_dir", "queries", "targets", "data_root")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    analyses = parser.add_subparsers(dest="analysis", required=True, metavar="ANALYSIS")

    flags = _add(analyses, "fool", _FOOL)
    flags.add_argument("--data-root", metavar="DIR", help="folder of the test set (default: each config's)")
    flags.add_argument(
        "--images", type=positive, metavar="N", help="so many, evenly spread over the set (default: all)"
    )
    flags.add_argument(
        "--pictures", type=count, default=0, metavar="N", help="write so many of the perturbed images"
    )
    _add_batch_size(flags)

    flags = _add(analyses, "transfer", _TRANSFER)
    flags.add_argument("--sets", type=Path, nargs="+", metavar="DIR", help="folders of class folders")
    flags.add_argument(
        "--no-zca",
        dest="zca",
        action="store_false",
        help="normalise the images as in training, in place of whitening them",
    )
    _add_size(flags)
    _add_batch_size(flags)

    flags = _add(analyses, "segment", _SEGMENT)
    flags.add_argument(
        "--data", type=Path, metavar="DIR", help="class folders, each with images and a folder GroundTruth"
    )
    flags.add_argument("--images-dir", type=Path, metavar="DIR", help="a folder of images, with --masks-dir")
    flags.add_argument("--masks-dir", type=Path, metavar="DIR", help="that of their masks, of the same names")
    flags.add_argument(
        "--pictures", type=count, default=6, metavar="N", help="images to draw (default: %(default)s)"
    )
    _add_size(flags)

    flags = _add(analyses, "query", _QUERY)
    flags.add_argument("--queries", type=Path, nargs="+", metavar="IMAGE", help="images, or folders of them")
    flags.add_argument("--targets", type=Path, nargs="+", metavar="IMAGE", help="the same")
    flags.add_argument(
        "--level",
        type=positive,
        metavar="L",
        help="which of the network's, from 1 (default: the last but one)",
    )
    _add_size(flags)
    return parser.parse_args(argv)


def _add(analyses, name: str, description: str) -> argparse.ArgumentParser:
    parser = analyses.add_parser(
        name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "nets", nargs="*", metavar="CONFIG CHECKPOINT", help="one network, or several to compare"
    )
    parser.add_argument("--demo", action="store_true", help="small networks on generated pictures instead")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to call the networks")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"output folder (default: outputs/ltpa_{name})"
    )
    add_device_flag(parser)
    add_options_flag(parser, "change every config, such as test_dataloader.dataset.split=train")
    return parser


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="side of the squares that images are resized to (default: of the config's inputs)",
    )


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-size", type=positive, default=64, metavar="N", help="images at a time (default: %(default)s)"
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
