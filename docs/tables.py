"""Write the tables of the READMEs and of the docs from ``configs/*/metafile.yml``.

    python docs/tables.py            write every table anew
    python docs/tables.py --check    name the files whose tables are out of date, and exit with status 1

A table stands between two comments: ``<!-- metafile: tdaf -->`` for all tables of a folder,
``<!-- metafile: tdaf, table 4, COCO -->`` for one of them, or ``<!-- sizes: tdaf/NAME td/NAME -->`` for
the published sizes of some configs beside those that are counted; and ``<!-- /metafile -->`` or
``<!-- /sizes -->``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from attn_mm.papers.metafile import Entry, Metafile, Result, Table, read_metafile

ROOT = Path(__file__).parents[1]
TEXTS = ("config", "description", "steps")
BLOCK = re.compile(r"(<!-- metafile: (\w+)(?:, ([^,\n]+), ([^\n]+))? -->\n).*?(<!-- /metafile -->)", re.S)
SIZES = re.compile(r"(<!-- sizes: ([^\n]+) -->\n).*?(<!-- /sizes -->)", re.S)


def pages() -> list[Path]:
    """The pages that can have such tables."""
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("configs/*/README.md"))]


def with_tables(page: Path) -> str:
    """The text of ``page`` with its tables written anew."""

    def block(match: re.Match) -> str:
        begin, folder, where, dataset, end = match.groups()
        metafile = read_metafile(folder)
        if where is None:
            return f"{begin}\n{all_tables(metafile, page)}\n{end}"
        (table,) = (t for t in metafile.tables if (t.where, t.dataset) == (where, dataset))
        return f"{begin}\n{one_table(metafile, table, page)}\n{end}"

    text = BLOCK.sub(block, page.read_text())
    return SIZES.sub(lambda match: f"{match[1]}\n{sizes(match[2].split())}\n{match[3]}", text)


def all_tables(metafile: Metafile, page: Path) -> str:
    """The tables of a folder; a paper's under headings, with what a reader must know of each."""
    if not metafile.tables:
        return listing([(entry, None) for entry in metafile.entries], metafile, page)
    sections = []
    for table in metafile.tables:
        lines = [f"### {table.where[0].upper()}{table.where[1:]}: {table.dataset}", ""]
        if table.note:
            lines += [table.note, ""]
        sections.append("\n".join([*lines, one_table(metafile, table, page)]))
    return "\n".join(sections)


def one_table(metafile: Metafile, table: Table, page: Path) -> str:
    """The configs that are rows of ``table``."""
    rows = [
        (entry, result)
        for entry in metafile.entries
        for result in entry.results
        if (result.where, result.dataset) == (table.where, table.dataset)
    ]
    return listing(rows, metafile, page)


def listing(rows: Iterable[tuple[Entry, Result | None]], metafile: Metafile, page: Path) -> str:
    """A Markdown table; a column in which nothing would stand is left out."""
    cells = []
    for entry, result in rows:
        link = os.path.relpath(ROOT / entry.config, page.parent)
        published = [row for row in entry.rows if result and row.where == f"{metafile.name}, {result.where}"]
        cells.append(
            {
                "config": f"[`{entry.name}`]({link})",
                "description": entry.description,
                "steps": result.steps if result else "",
                **(result.metrics if result else {}),
                "parameters": f"{entry.parameters:,}",
                "published": next((row.params for row in published if row.params), ""),
                "multiply-adds": multiply_adds(entry, metafile),
                "published ": next((row.macs for row in published if row.macs), ""),
            }
        )
    columns = list(TEXTS)
    columns += dict.fromkeys(key for row in cells for key in row if key not in columns)
    columns = [column for column in columns if any(row.get(column) for row in cells)]
    # The sizes stand behind the metrics, also where the first row has none of these.
    columns.sort(key=["parameters", "published", "multiply-adds", "published "].__contains__)
    lines = [
        [column.strip() for column in columns],
        ["---" if column in TEXTS else "---:" for column in columns],
        *([row.get(column, "") for column in columns] for row in cells),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def multiply_adds(entry: Entry, metafile: Metafile) -> str:
    """Those of a config, in the unit that its paper uses."""
    binary = any(row.macs and row.macs.endswith("Gi") for row in metafile.rows())
    return f"{entry.flops / 2**30:.3f} Gi" if binary else f"{entry.flops / 1e9:.3f} G"


def sizes(names: Iterable[str]) -> str:
    """The published sizes of some configs, each by its folder and name, beside those that are counted."""
    lines = ["| where | network | published | attn_mm |", "| --- | --- | ---: | ---: |"]
    for folder, _, name in (name.partition("/") for name in names):
        metafile = read_metafile(folder)
        (entry,) = (entry for entry in metafile.entries if entry.name == name)
        row = entry.rows[0]
        published = [figure for figure in (row.params, row.macs) if figure]
        ours = [f"{entry.parameters:,}", *([multiply_adds(entry, metafile)] if row.macs else [])]
        lines.append(f"| {row.where} | {row.network} | {', '.join(published)} | {', '.join(ours)} |")
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(argv).check
    stale = [(page, text) for page in pages() if (text := with_tables(page)) != page.read_text()]
    for page, text in stale:
        print(f"{page.relative_to(ROOT)} {'is out of date' if check else 'written'}")
        if not check:
            page.write_text(text)
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
