"""Write the tables of docs/speed.md and docs/results.md from the measurements in docs/results.

    python -m benchmarks pages              write every table anew
    python -m benchmarks pages --check      exit with status 1 if a table is out of date

Each table is between two comments. The second one is ``<!-- /table -->``; the first one names what to show
and files of docs/results: ``<!-- table: inference nchw latency_r50 latency_r50_again -->`` for the cases
of a mode and a layout, with a second series beside the first; ``<!-- table: papers latency_papers -->``, and
likewise ``families``, ``growth``, ``cifar10`` and ``bccd``, for the whole of a file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.utils.files import write_atomically
from attn_mm.utils.tables import markdown_table
from benchmarks import bccd, cifar10, families, growth, latency
from benchmarks.comparison import table as table_of_seeds

ROOT = Path(__file__).parents[1]
PAGES = ("docs/speed.md", "docs/results.md")
RESULTS = ROOT / "docs/results"
BLOCK = re.compile(r"(<!-- table: ([^\n]+) -->\n)(?:(?!<!-- ?/?table).)*(<!-- /table -->)", re.S)
COMMENT = re.compile(r"<!--\s*(?:/\s*table|table\s*:)[^\n]*")

Cases = dict[str, dict]


def _listed(table: Callable[[list[dict]], str]) -> Callable[[Cases], str]:
    return lambda found: table(list(found.values()))


# Tables of all cases of one file.
WHOLE: dict[str, Callable[[Cases], str]] = {
    "bccd": lambda found: table_of_seeds(bccd.compared(found)),
    "cifar10": lambda found: table_of_seeds(cifar10.compared(found)),
    "families": families.table,
    "growth": _listed(growth.table),
    "papers": _listed(latency.papers_table),
}


def cases(name: str) -> Cases:
    """The measured cases of a file of docs/results, by their keys; UserError if it has none."""
    path = RESULTS / f"{name}.json"
    try:
        return json.loads(path.read_text())["cases"]
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} has no cases of a benchmark") from error


def with_tables(text: str) -> str:
    """The text of a page with its tables written anew; UserError if a comment is malformed."""
    if alone := COMMENT.search(BLOCK.sub("", text)):
        raise UserError(
            f"{alone[0]} needs a partner: write <!-- table: ... --> and <!-- /table --> around a table"
        )
    return BLOCK.sub(lambda match: f"{match[1]}\n{table(*match[2].split())}\n\n{match[3]}", text)


def table(kind: str, *words: str) -> str:
    """The table that a comment asks for, as Markdown; UserError if there is none."""
    comment = " ".join(["<!-- table:", kind, *words, "-->"])
    if len(words) != (1 if kind in WHOLE else 3):
        raise UserError(f"{comment} names no table: see python -m benchmarks pages --help")
    try:
        if kind in WHOLE:
            return WHOLE[kind](cases(words[0]))
        layout, *series = words
        return overheads(kind, layout, *map(cases, series))
    # What a file of another benchmark lacks.
    except (KeyError, ValueError) as error:
        raise UserError(f"{comment} doesn't fit its file: {error!r}") from error


def overheads(mode: str, layout: str, first: Cases, again: Cases) -> str:
    """What each module costs in one mode and layout, as multiples of the plain backbone."""
    header = (mode, "batch", "ours", "ours, again", "naive", "timm", "folded", "folded, to plain folded")
    header += ("memory", "memory, naive", "memory, timm")
    rows = [
        (
            f"{case['module']}, {case['backbone']}",
            f"{case['batch']}, {case['dtype']}",
            ratio(case, "ours"),
            # A case that a series took over from the other is measured once.
            ratio(again.get(key), "ours") if again.get(key) != case else "",
            ratio(case, "naive"),
            ratio(case, "timm"),
            ratio(case, "folded"),
            ratio(case, "folded", "plain folded"),
            *(memory(case, form) for form in ("ours", "naive", "timm")),
        )
        for key, case in first.items()
        if (case["mode"], case["layout"]) == (mode, layout)
    ]
    if not rows:
        raise ValueError(f"no case of {mode} in {layout}")
    return markdown_table(header, rows, header[2:])


def ratio(case: dict | None, form: str, to: str = "plain") -> str:
    """Median and quartiles of the ratio of two forms, or nothing where they were not measured."""
    values = None if case is None else latency.ratio(case, form, to)
    return "" if values is None else f"{values['median']:.2f} ({values['q1']:.2f}-{values['q3']:.2f})"


def memory(case: dict, form: str) -> str:
    peaks = case["memory"]
    return f"{peaks[form] / peaks['plain']:.2f}" if form in peaks else ""


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks pages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(argv).check
    stale = {}
    for name in PAGES:
        old = (ROOT / name).read_text()
        try:
            new = with_tables(old)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if new != old:
            stale[name] = new
    for name, new in stale.items():
        print(f"{name} {'is out of date' if check else 'written'}")
        if not check:
            write_atomically(ROOT / name, new)
    if stale and check:
        sys.exit(1)


if __name__ == "__main__":
    main()
