"""``tools/complexity.py``: parameters and multiply-adds of a config, or of the papers' networks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config

from attn_mm.describe.build import look_at
from attn_mm.describe.counting import Part, measure
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.forwards import input_shape
from attn_mm.papers import PAPERS
from attn_mm.papers.counts import compare, paper_report
from attn_mm.utils.config import ConfigOptions, load_config
from attn_mm.utils.files import make_folder
from attn_mm.utils.tables import markdown_table

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
        help=f"the papers' networks instead of a config: any of {', '.join(PAPERS)} (default: all)",
    )
    parser.add_argument(
        "--shape",
        nargs="+",
        type=int,
        metavar="N",
        help="shape of an input: 3 224 224 for an image, 3 16 112 112 for a clip of a 3D network, "
        "8 3 224 224 for the frames of a 2D one (default: that of the config's pipeline)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write the table as Markdown and JSON here"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="change the config, such as model.backbone.flows=4",
    )
    return parser.parse_args(argv)


def count_config(cfg: Config, shape: Sequence[int], depth: int = 2) -> list[Part]:
    """Parameters and multiply-adds of the model of ``cfg`` and its parts; errors as of :func:`look_at`."""
    return look_at(cfg, shape, partial(measure, depth=depth))


def config_report(name: str, shape: Sequence[int], parts: Sequence[Part]) -> str:
    """The counts as Markdown."""
    total = parts[0]
    header = ("part", "type", "parameters", "trainable", "MACs, conv", "MACs, full")
    rows = [
        (
            "total" if part is total else part.name,
            part.type,
            f"{part.params:,}",
            f"{part.trainable:,}",
            *("" if n is None else f"{n / 1e9:.3f} G" for n in (part.conv, part.full)),
        )
        for part in (*parts[1:], total)
    ]
    lines = [f"# {name}, input {' x '.join(map(str, shape))}", "", markdown_table(header, rows, header[2:])]
    if total.frozen_affine:
        kept = total.params - total.frozen_affine
        lines += ["", f"Without the scales and shifts of frozen batch norms: {kept:,} parameters."]
    return "\n".join(lines) + "\n"


def write(out: Path, name: str, report: str, record: object) -> None:
    """Write ``name``.md and ``name``.json into the folder ``out``; UserError where that fails."""
    try:
        (out / f"{name}.md").write_text(report)
        (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{error.filename} can't be written ({error.strerror})") from error


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if (args.config is None) == (args.paper is None):
        raise UserError("name a config, or --paper, and not both")
    if args.out:
        make_folder(args.out)
    if args.paper is not None:
        _papers(args)
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


def _papers(args: argparse.Namespace) -> None:
    unknown = sorted(set(args.paper) - set(PAPERS))
    if unknown:
        raise UserError(f"--paper knows {', '.join(PAPERS)}, not {', '.join(unknown)}")
    if args.shape or args.cfg_options:
        raise UserError("--shape and --cfg-options are for a config; the papers' networks have their own")
    counts = compare(args.paper or PAPERS)
    report = paper_report(counts)
    print(report, end="")
    if args.out:
        write(args.out, "papers", report, [count.record() for count in counts])
