"""``attn-mm describe``: describe a network and what attention adds to it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from torch import nn

from attn_mm.describe.build import add_shape_flag, look_at
from attn_mm.describe.calls import Call, trace_calls
from attn_mm.describe.dataflow import DataFlow, Flows, find_dataflow
from attn_mm.describe.drawing import draw
from attn_mm.describe.module_tree import (
    Amount,
    Node,
    amounts,
    build_tree,
    outputs_text,
    size,
    thousands,
    tree_text,
)
from attn_mm.describe.without_attention import without_attention
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.forwards import input_shape
from attn_mm.graft.units import find_family
from attn_mm.layers import MFBN
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_options_flag
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Describe the network of a config. The command prints its modules as a tree with their output shapes,
parameters and multiply-adds, and what attention adds to the plain network. With --out it also draws the
data flow. It needs no checkpoint and no memory for weights.

  %(prog)s configs/fcos_tdaf_r50.py
  %(prog)s configs/td/r50_td-joint_125e_in1k.py --out described
  %(prog)s configs/tdaf/3dr50_tdaf-anar5_kinetics400.py --shape 3 16 112 112 --out described
  %(prog)s mmdet::retinanet/retinanet_r50_fpn_1x_coco.py
"""

_EPILOG = """\
With --out the command writes describe.md, describe.json and describe.svg. In the tree, + marks modules that
the plain network lacks. MACs are the multiply-adds of convolutions, linear layers and matrix products for
one input, summed over all calls. More: docs/describe.md
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument("config", help="config file of any framework")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the description and the drawing into this folder"
    )
    add_shape_flag(parser)
    add_options_flag(parser, "override config values, such as model.backbone.flows=4")
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


class Description:
    """Description of a config's network.

    Args:
        cfg: the config.
        shape: shape of an input, without the batch dimension.

    Attributes:
        tree: the network's modules, compared with the plain network if there is one.
        calls: the calls that ran, see :func:`attn_mm.describe.calls.trace_calls`.
        flow: the data flow.
        norms: how many batch norms keep statistics for each flow, by number of flows.
        plain: the plain network's amounts, or None.

    Raises:
        UserError: the network can't be built, or does not run on such an input.
    """

    tree: Node
    calls: Mapping[str, list[Call]]
    flow: DataFlow
    norms: Counter[int]

    def __init__(self, cfg: Config, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.plain = plain_amounts(cfg, shape)
        look_at(cfg, shape, self._look)

    def _look(self, model: nn.Module, *inputs, **kwargs) -> None:
        self.calls = trace_calls(model, *inputs, **kwargs)
        own = amounts(model, self.calls)
        self.tree = build_tree(
            model, self.calls, self.plain, is_block=lambda module: find_family(module) is not None
        )
        self.flow = find_dataflow(model, self.calls, own, self.shape)
        self.norms = Counter(m.num_flows for m in model.modules() if isinstance(m, MFBN))


def plain_amounts(cfg: Config, shape: tuple[int, ...]) -> dict[str, Amount] | None:
    """Count the modules of the plain network; None if the config has no attention to remove.

    If the head doesn't match the plain network's maps, only the backbones are compared.
    """
    plain = without_attention(cfg)
    if plain is None:
        return None

    def look(model: nn.Module, *inputs, **kwargs) -> dict[str, Amount]:
        return amounts(model, trace_calls(model, *inputs, **kwargs))

    try:
        return look_at(plain, shape, look)
    except UserError:
        if "backbone" not in plain.model:
            raise
    plain.model = plain.model["backbone"]
    found = look_at(plain, shape, look)
    return {f"backbone.{name}".rstrip("."): amount for name, amount in found.items()}


def flows_table(flows: Flows) -> str:
    """Output shape and multiply-adds of each stage in each flow, and the mask that multiplied it."""
    rows = []
    for number in range(1, flows.flows + 1):
        cells = []
        for stage in range(len(flows.stages)):
            call, mask = flows.cells.get((stage, number)), flows.masks.get((stage, number))
            cells.append("" if call is None else f"{outputs_text(call.shapes)}, {thousands(call.conv)}")
            if mask:
                cells[-1] += f", x {mask}"
        rows.append([str(number), *cells])
    return markdown_table(["flow", *flows.stages], rows)


def report(name: str, description: Description) -> str:
    """Format the description as Markdown."""
    tree = description.tree
    lines = [
        f"# {name}",
        "",
        f"Input {size(description.shape)}; {tree.amount.params:,} parameters; "
        f"{tree.amount.conv / 1e9:.3f} G multiply-adds (conv), {tree.amount.full / 1e9:.3f} G (full).",
        "",
    ]
    lines += [] if description.plain is None else [_added(description.tree, description.plain), ""]
    for count, number in sorted(description.norms.items()):
        lines += [f"{number} batch norms have statistics for each of {count} flows.", ""]
    for flows in description.flow.flows:
        lines += [f"Flows over {flows.name or 'the network'}: output, multiply-adds, mask", ""]
        lines += [flows_table(flows), ""]
    return "\n".join([*lines, "```", tree_text(tree).rstrip(), "```"]) + "\n"


def _added(tree: Node, plain: Mapping[str, Amount]) -> str:
    before = _whole(plain)
    part, added = "network", tree.added
    if added is None:
        part, added = "backbone", next(c.added for c in tree.children if c.name == "backbone")
    assert added is not None
    return (
        f"The plain {part} has {before.params:,} parameters and {before.conv / 1e9:.3f} G multiply-adds; "
        f"added are {added.params:,} ({_percent(added.params, before.params)}) and "
        f"{added.conv / 1e9:.3f} G ({_percent(added.conv, before.conv)})."
    )


def _percent(added: int, before: int) -> str:
    return f"{100 * added / before:+.1f} %" if before else "of none"


def record(name: str, description: Description) -> dict:
    """Convert the description for JSON."""
    flow = asdict(description.flow)
    for flows in flow["flows"]:
        for key in ("cells", "masks"):
            entries = flows[key].items()
            flows[key] = [{"stage": s, "flow": f, key[:-1]: value} for (s, f), value in entries]
    calls = {key: [asdict(call) for call in found] for key, found in description.calls.items() if found}
    return dict(
        config=name,
        shape=description.shape,
        plain=None if description.plain is None else asdict(_whole(description.plain)),
        tree=asdict(description.tree),
        dataflow=flow,
        calls=calls,
    )


def _whole(plain: Mapping[str, Amount]) -> Amount:
    return plain["" if "" in plain else "backbone"]


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    if not isinstance(cfg.get("model"), dict):
        raise UserError(f"{args.config} has no model")
    if args.out:
        make_folder(args.out)
    description = Description(cfg, tuple(args.shape or input_shape(cfg)))
    text = report(args.config, description)
    print(text, end="")
    if args.out:
        found = json.dumps(record(args.config, description), indent=1)
        write_atomically(args.out / "describe.md", text)
        write_atomically(args.out / "describe.json", found + "\n")
        write_atomically(args.out / "describe.svg", draw(args.config, description.flow))
