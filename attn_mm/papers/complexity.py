"""``tools/complexity.py``: parameters and multiply-adds of a config, or of the papers' networks."""

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
from attn_mm.utils.files import make_folder
from attn_mm.utils.flags import add_options_flag

_DESCRIPTION = """\
Count the parameters and multiply-adds of a config's network, part by part,
or compare those that the papers publish with those of the networks here.

  complexity.py configs/fcos_tdaf_r50.py
  complexity.py configs/fcos_tdaf_r50.py --shape 3 640 640 --out counts
  complexity.py --paper
  complexity.py --paper td aw --out counts
"""

_EPILOG = """\
conv: multiply-adds of convolutions, linear layers and matrix products. full: conv, 2 for each
element of a normalization, 1 for each of a ReLU or pooling. docs/complexity.md says more.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file of mmdet, mmpose, mmaction2 or mmpretrain")
    parser.add_argument(
        "--paper",
        nargs="*",
        metavar="PAPER",
        help=f"the papers' networks instead of a config: any of {', '.join(paper_names())} (default: all)",
    )
    add_shape_flag(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table as Markdown and JSON here"
    )
    add_options_flag(parser, "change the config, such as model.backbone.flows=4")
    return parser.parse_args(argv)


def write(out: Path, name: str, report: str, record: object) -> None:
    """Write ``name``.md and ``name``.json into the folder ``out``; UserError where that fails."""
    try:
        (out / f"{name}.md").write_text(report)
        (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{error.filename} can't be written ({error.strerror})") from error


def compare_papers(papers: Sequence[str], out: Path | None = None) -> None:
    """Print what the papers publish against what is counted; write it into ``out``, if it is named.

    Args:
        papers: of :func:`attn_mm.papers.paper_names`; all where there is none.
        out: the output folder.

    Raises:
        UserError: a framework that their networks need is not installed.
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
        raise UserError("name a config, or --paper, and not both")
    if args.out:
        make_folder(args.out)
    if args.paper is not None:
        known = paper_names()
        unknown = sorted(set(args.paper) - set(known))
        if unknown:
            raise UserError(f"--paper knows {', '.join(known)}, not {', '.join(unknown)}")
        if args.shape or args.cfg_options:
            raise UserError("--shape and --cfg-options are for a config; the papers' networks have their own")
        compare_papers(args.paper, args.out)
        return
    cfg = load_config(args.config, args.cfg_options)
    if "model" not in cfg:
        raise UserError(f"{args.config} has no model")
    if not isinstance(cfg.model, dict):
        raise UserError(f"the model of {args.config} must be a dict, got {cfg.model!r}")
    shape = tuple(args.shape or input_shape(cfg))
    parts = count_config(cfg, shape)
    report = config_report(args.config, shape, parts)
    print(report, end="")
    if args.out:
        record = dict(config=args.config, shape=shape, parts=[vars(part) for part in parts])
        write(args.out, Path(args.config).stem, report, record)
