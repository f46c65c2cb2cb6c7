"""Where attention can go: in the network of a config, or in every backbone that the frameworks register."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config
from torch import nn

from attn_mm.describe.build import build_part, scope_of
from attn_mm.describe.places import list_places
from attn_mm.describe.registered import RECIPES
from attn_mm.errors import ConfigError, UserError, reports_user_errors
from attn_mm.graft.behind import is_map
from attn_mm.graft.places import place_names
from attn_mm.graft.probe import CannotRun, look_at_outputs
from attn_mm.models.grafting import graft_onto
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_options_flag
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Show where attention can go in the network of a config: the names that after= and convs= can use as a tree,
with channels and strides, and which grafts fit the network. With --backbones the command makes a table of
every backbone that the frameworks register, and tries each graft on it.

  where.py configs/fcos_tdaf_r50.py
  where.py mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py --part neck
  where.py --backbones mmdet mmpose --out where
"""

_EPILOG = """\
With --out the command writes where.md and where.json, which also has the reason of each refusal. Networks are
built on the meta device, without memory for their weights. More: docs/where.md
"""

FRAMEWORKS = ("mmdet", "mmpose", "mmaction", "mmpretrain")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file of a framework")
    parser.add_argument(
        "--part",
        default="backbone",
        metavar="NAME",
        help="part of the model, such as neck (default: backbone)",
    )
    parser.add_argument(
        "--backbones",
        nargs="*",
        choices=FRAMEWORKS,
        help="make the table of all registered backbones, or of those of these frameworks",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the table into this folder")
    add_options_flag(parser, "override config values, such as model.backbone.depth=101")
    args = parser.parse_args(argv)
    if (args.config is None) == (args.backbones is None):
        parser.error("give a config, or --backbones")
    return args


@dataclass
class Row:
    """What fits one network.

    Attributes:
        network: its name.
        refused: the reason by the graft, or the way to name places; empty where it fits.
        error: why the network can't be built here.
    """

    network: str
    refused: dict[str, str] = field(default_factory=dict)
    error: str = ""


COLUMNS = ("outputs", "after", "position", "AWConv", "TD", "TDAF")
_LAYER = dict(type="attn_mm.ECA")


def what_fits(network: str, net: nn.Module) -> Row:
    """Try each graft with its defaults, and a layer at each kind of place, on copies of ``net``."""
    grafts = {
        "outputs": dict(_LAYER, outputs="all"),
        "after": dict(_LAYER, after=_some_place(net)),
        "position": _LAYER,
        "AWConv": dict(type="attn_mm.AWConv"),
        "TD": dict(type="attn_mm.TD"),
        "TDAF": dict(type="attn_mm.TDAF"),
    }
    row = Row(network)
    for name, graft in grafts.items():
        try:
            graft_onto(copy.deepcopy(net), [graft])
            row.refused[name] = ""
        except ConfigError as error:
            row.refused[name] = str(error)
    return row


def _some_place(net: nn.Module) -> str:
    """The last convolution that gives a map, or a name that is no place."""
    convs = {n: m for n, m in place_names(net).items() if isinstance(m, nn.Conv2d | nn.Conv3d)}
    try:
        outputs = look_at_outputs(net, convs.values())
    except CannotRun:
        return next(reversed(convs), "")
    good = [n for n, m in convs.items() if outputs.get(m) and all(map(is_map, outputs[m]))]
    return good[-1] if good else next(reversed(convs), "none")


def build_backbone(name: str) -> nn.Module:
    """Build the small network of :data:`attn_mm.describe.registered.RECIPES` on the meta device."""
    config = dict(type=name, **copy.deepcopy(RECIPES[name].options))
    return build_part(config, name.partition(".")[0], "meta", name)


def table_of_backbones(frameworks: Sequence[str]) -> list[Row]:
    """A row for each backbone that the frameworks register."""
    names = [name for name in RECIPES if name.partition(".")[0] in frameworks]
    rows = []
    with progress_bar() as progress:
        for name in progress.track(names, description="backbones"):
            try:
                rows.append(what_fits(name, build_backbone(name)))
            except UserError as error:
                rows.append(Row(name, error=str(error)))
    return rows


def report(rows: Sequence[Row]) -> str:
    """Format the table as Markdown, and below it how many networks take each graft."""
    lines = [[row.network, *(_cell(row, column) for column in COLUMNS)] for row in rows]
    fits = [sum(row.refused.get(column) == "" for row in rows) for column in COLUMNS]
    counts = ", ".join(f"{column} {number}" for column, number in zip(COLUMNS, fits))
    layers = sum(any(row.refused.get(way) == "" for way in COLUMNS[:3]) for row in rows)
    total = f"Of {len(rows)} backbones, {layers} take layers; by column: {counts}."
    return f"{markdown_table(['backbone', *COLUMNS], lines)}\n\n{total}\n"


def _cell(row: Row, column: str) -> str:
    return "?" if row.error else "" if row.refused[column] else "yes"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    if args.out:
        make_folder(args.out)
    if args.config is None:
        rows = table_of_backbones(args.backbones or [name for name in FRAMEWORKS if find_spec(name)])
        text = report(rows)
    else:
        net = _part(load_config(args.config, args.cfg_options), args.part)
        rows = [what_fits(args.part, net)]
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
