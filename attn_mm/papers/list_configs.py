"""``attn-mm list``: the packaged configs, with their sizes and what their papers publish of them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.papers.metafile import TASKS, Entry, Result, folders, read_metafile
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.tables import counted, markdown_table

_DESCRIPTION = """\
List the packaged configs with their parameters, multiply-adds (MACs), and the results that their papers
publish. Every command takes a config by the name in this list, in any folder.

  %(prog)s --paper tdaf --task detection
  %(prog)s --task pose
  %(prog)s --json > configs.json
"""

_EPILOG = """\
MACs are those of one input of the size that the config tests with, counted as its paper does; attn-mm
complexity CONFIG counts them at any size. The published results are the papers', not measured here.
"""


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument(
        "--paper",
        choices=folders(),
        metavar="NAME",
        help="configs of this folder: a paper (aw, ltpa, tam, td, tdaf) or combinations that no paper has "
        f"({', '.join(TASKS)}, finegrained)",
    )
    parser.add_argument("--task", choices=TASKS, help="configs for this task")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print all fields as JSON")
    form.add_argument("--csv", action="store_true", help="print one line per config as CSV")
    return parser


@dataclass(frozen=True)
class Listed:
    """A config of the list.

    Attributes:
        config: its path, from ``configs/`` on.
        paper: its folder.
        task: what it is for.
        framework: the package that it needs.
        description: of the network, in a few words; may be empty.
        parameters: of the network.
        macs: multiply-adds for one input of the config's test size.
        published: each result of the paper.
    """

    config: str
    paper: str
    task: str
    framework: str
    description: str
    parameters: int
    macs: int
    published: tuple[Result, ...]


def listed(paper: str | None = None, task: str | None = None) -> Iterator[Listed]:
    """The packaged configs, folder by folder.

    Args:
        paper: only those of this folder of ``configs/``.
        task: only those for this task, a key of :data:`attn_mm.papers.metafile.TASKS`.
    """
    for folder in [paper] if paper else folders():
        for entry in read_metafile(folder).entries:
            if task in (None, entry.task):
                yield _listed(folder, entry)


def _listed(folder: str, entry: Entry) -> Listed:
    return Listed(
        entry.config,
        folder,
        entry.task,
        entry.framework,
        entry.description,
        entry.parameters,
        entry.flops,
        tuple(result for result in entry.results if result.metrics),
    )


def table(rows: Sequence[Listed]) -> str:
    """The list as a table for a terminal: the first metric of each result."""
    cells = [
        [
            row.config.removeprefix("configs/"),
            row.task,
            f"{row.parameters / 1e6:.2f} M",
            f"{row.macs / 1e9:.2f} G",
            "; ".join(dict.fromkeys(_short(result) for result in row.published)),
        ]
        for row in rows
    ]
    header = ["config", "task", "parameters", "MACs", "published"]
    return f"{markdown_table(header, cells, ['parameters', 'MACs'])}\n\n{counted(len(rows), 'config')}"


def _short(result: Result) -> str:
    name, value = next(iter(result.metrics.items()))
    return f"{name.replace('Top 1', 'top-1').replace(' Accuracy', '')} {value}, {result.where}"


def _write_csv(rows: Sequence[Listed]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(name for name in Listed.__dataclass_fields__)
    for row in rows:
        results = (
            f"{result.where}, {result.dataset}: "
            + ", ".join(f"{name} {value}" for name, value in result.metrics.items())
            for result in row.published
        )
        writer.writerow([*list(asdict(row).values())[:-1], "; ".join(results)])


@reports_user_errors
def main(argv=None) -> None:
    args = make_parser().parse_args(argv)
    rows = list(listed(args.paper, args.task))
    if not rows:
        tasks = ", ".join(dict.fromkeys(row.task for row in listed(args.paper)))
        raise UserError(f"configs/{args.paper} has no config for {args.task}, but some for {tasks}")
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    elif args.csv:
        _write_csv(rows)
    else:
        print(table(rows))
