"""Where attention can go: in the network of a config, or in every backbone that the frameworks register."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from torch import nn

from attn_mm.describe.build import build_part, scope_of
from attn_mm.describe.fitting import COLUMNS, what_fits
from attn_mm.describe.places import list_places
from attn_mm.describe.registered import RECIPES
from attn_mm.describe.torch_networks import TIMM, TORCHVISION
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_options_flag
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Show where attention can go in the network of a config: the names that after= and convs= can use as a tree,
with channels and strides, and which grafts fit the network. With --networks the command makes a table of
every backbone that the frameworks register, and of 80 networks of torchvision and timm: it tries each graft
on each.

  %(prog)s configs/fcos_tdaf_r50.py
  %(prog)s mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py --part neck
  %(prog)s --networks mmdet mmpose --out where
"""

_EPILOG = """\
With --out the command writes where.md and where.json, which also has the reason of each refusal. Networks are
built on the meta device, without memory for their weights. More: docs/where.md
"""

LIBRARIES = ("mmdet", "mmpose", "mmaction", "mmpretrain", "mmseg", "torchvision", "timm")


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument("config", nargs="?", help="config file of a framework")
    parser.add_argument(
        "--part",
        default="backbone",
        metavar="NAME",
        help="part of the model, such as neck (default: backbone)",
    )
    parser.add_argument(
        "--networks",
        nargs="*",
        choices=LIBRARIES,
        help="make the table of all registered backbones and of 80 networks of torchvision and timm, or of "
        "those of these libraries",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the table into this folder")
    add_options_flag(parser, "override config values, such as model.backbone.depth=101")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if (args.config is None) == (args.networks is None):
        parser.error("give a config, or --networks")
    return args


@dataclass
class Row:
    """What fits one network.

    Attributes:
        network: its name.
        refused: the reason by what was tried, see :func:`attn_mm.describe.fitting.what_fits`.
        error: why the network can't be built here.
    """

    network: str
    refused: dict[str, str] = field(default_factory=dict)
    error: str = ""


def build_backbone(name: str) -> nn.Module:
    """Build the small network of :data:`attn_mm.describe.registered.RECIPES` on the meta device."""
    config = dict(type=name, **copy.deepcopy(RECIPES[name].options))
    scope = name.partition(".")[0]
    try:
        return build_part(config, scope, "meta", name)
    except UserError as error:
        # Some constructors read their weights.
        if "meta tensor" not in str(error):
            raise
    return build_part(config, scope, "cpu", name)


def make_table(libraries: Sequence[str]) -> list[Row]:
    """A row for each backbone that the frameworks register, and for each network of the other libraries."""
    networks: list[tuple[str, Callable[[], nn.Module], str | None]] = [
        *((name, partial(build_backbone, name), None) for name in RECIPES),
        *((f"{net.library}.{net.title}", net.build, net.after) for net in (*TORCHVISION, *TIMM)),
    ]
    networks = [row for row in networks if row[0].partition(".")[0] in libraries]
    rows = []
    with _quiet(), progress_bar() as progress:
        for name, build, after in progress.track(networks, description="networks"):
            try:
                rows.append(Row(name, what_fits(build().to("meta"), after)))
            except UserError as error:
                rows.append(Row(name, error=str(error)))
    return rows


@contextmanager
def _quiet() -> Iterator[None]:
    """In this context, what constructors log and warn of doesn't break the progress bar."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def report(rows: Sequence[Row]) -> str:
    """Format the table as Markdown, and below it how many networks take each graft."""
    lines = [[row.network, *(_cell(row, column) for column in COLUMNS)] for row in rows]
    fits = [sum(row.refused.get(column) == "" for row in rows) for column in COLUMNS]
    counts = ", ".join(f"{column} {number}" for column, number in zip(COLUMNS, fits))
    layers = sum(any(row.refused.get(way) == "" for way in COLUMNS[:3]) for row in rows)
    total = f"Of {len(rows)} networks, {layers} take layers; by column: {counts}."
    return f"{markdown_table(['network', *COLUMNS], lines)}\n\n{total}\n"


def _cell(row: Row, column: str) -> str:
    return "?" if row.error else "" if row.refused[column] else "yes"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if args.out:
        make_folder(args.out)
    if args.config is None:
        rows = make_table(args.networks or [name for name in LIBRARIES if find_spec(name)])
        text = report(rows)
    else:
        net = _part(load_config(args.config, args.cfg_options), args.part)
        rows = [Row(args.part, what_fits(net))]
        text = f"{list_places(net)}\n\n{_fitting(rows[0])}\n"
    print(text, end="")
    if args.out:
        found = json.dumps([asdict(row) for row in rows], indent=1)
        write_atomically(args.out / "where.md", text)
        write_atomically(args.out / "where.json", found + "\n")


def _part(cfg: Config, name: str) -> nn.Module:
    node = cfg.model
    for key in name.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        parts = ", ".join(
            key for key, value in cfg.model.items() if isinstance(value, dict) and "type" in value
        )
        raise UserError(f"{cfg.filename} has no model.{name}: name one of {parts} by --part")
    return build_part(node, scope_of(cfg), "meta", f"model.{name} of {cfg.filename}")


def _fitting(row: Row) -> str:
    fits = [column for column in COLUMNS if not row.refused[column]]
    lines = [f"These fit: {', '.join(fits)}."]
    lines += [f"{column} does not: {reason}" for column, reason in row.refused.items() if reason]
    return "\n".join(lines)
