"""``attn-mm complexity``: count the parameters and multiply-adds of a config or of papers' networks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from attn_mm.describe.build import add_shape_flag
from attn_mm.describe.complexity import config_report, count_config
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.forwards import input_shape
from attn_mm.papers import paper_names
from attn_mm.papers.counts import compare, paper_report
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_options_flag
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import working

_DESCRIPTION = """\
Count the parameters and multiply-adds of a config's network, part by part. With --paper,
compare the counts that the papers publish with those of the networks here.

  %(prog)s configs/fcos_tdaf_r50.py
  %(prog)s configs/fcos_tdaf_r50.py --shape 3 640 640 --out counts
  %(prog)s --paper
  %(prog)s --paper td aw --out counts
"""

_EPILOG = """\
conv: multiply-adds of convolutions, linear layers and matrix products. full: conv, plus 2 per
element of a normalization and 1 per element of a ReLU or pooling. More: docs/complexity.md
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument("config", nargs="?", help="config file of any framework")
    parser.add_argument(
        "--paper",
        nargs="*",
        metavar="PAPER",
        help=f"count the networks of these papers: any of {', '.join(paper_names())} (default: all)",
    )
    add_shape_flag(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table as Markdown and JSON into this folder"
    )
    add_options_flag(parser, "override config values, such as model.backbone.flows=4")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def write(out: Path, name: str, report: str, record: object) -> None:
    """Write ``name``.md and ``name``.json into the folder ``out``; UserError if that fails."""
    write_atomically(out / f"{name}.md", report)
    write_atomically(out / f"{name}.json", json.dumps(record, indent=1) + "\n")


def compare_papers(papers: Sequence[str], out: Path | None = None) -> None:
    """Print the published counts beside ours, and write them into ``out`` if it is given.

    Args:
        papers: names from :func:`attn_mm.papers.paper_names`; empty: all of them.
        out: the output folder.

    Raises:
        UserError: a framework that the networks need is not installed.
    """
    counts = compare(papers or paper_names())
    report = paper_report(counts)
    print(report, end="")
    if out:
        write(out, "papers", report, [count.record() for count in counts])


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if (args.config is None) == (args.paper is None):
        raise UserError("give either a config or --paper")
    if args.out:
        make_folder(args.out)
    if args.paper is not None:
        known = paper_names()
        unknown = sorted(set(args.paper) - set(known))
        if unknown:
            raise UserError(f"--paper knows {', '.join(known)}, not {', '.join(unknown)}")
        if args.shape or args.cfg_options:
            raise UserError("--paper takes no --shape and no --cfg-options: they change a config")
        compare_papers(args.paper, args.out)
        return
    cfg = load_config(args.config, args.cfg_options)
    if "model" not in cfg:
        raise UserError(f"{args.config} has no model")
    if not isinstance(cfg.model, dict):
        raise UserError(f"the model of {args.config} must be a dict, got {cfg.model!r}")
    shape = tuple(args.shape or input_shape(cfg))
    with working("counting"):
        parts = count_config(cfg, shape)
    report = config_report(args.config, shape, parts)
    print(report, end="")
    if args.out:
        record = dict(config=args.config, shape=shape, parts=[vars(part) for part in parts])
        write(args.out, Path(args.config).stem, report, record)
