"""Try each graft on 40 networks of torchvision and 40 of timm, on the meta device.

    python -m benchmarks.torch_networks --work-dir docs/results

It writes torch_networks.json, with the reason of each refusal, and prints a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from attn_mm.describe.torch_networks import COLUMNS, TIMM, TORCHVISION, what_fits
from attn_mm.errors import reports_user_errors
from attn_mm.utils.files import write_atomically
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table


def report(rows: Sequence[dict]) -> str:
    """Format the table as Markdown, and below it how many networks take each graft."""
    cells = [(row["network"], *("-" if row["refused"][c] else "yes" for c in COLUMNS)) for row in rows]
    lines = [markdown_table(("network", *COLUMNS), cells), ""]
    for library in dict.fromkeys(row["library"] for row in rows):
        own = [row["refused"] for row in rows if row["library"] == library]
        counts = ", ".join(f"{column} {sum(not refused[column] for refused in own)}" for column in COLUMNS)
        placed = sum(not (refused["outputs"] and refused["after"]) for refused in own)
        lines.append(f"Of {len(own)} networks of {library}: a layer behind something {placed}, {counts}.")
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torch_networks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for torch_networks.json")
    args = parser.parse_args(argv)
    rows = []
    with progress_bar() as bar:
        for network in bar.track((*TORCHVISION, *TIMM), description="networks"):
            rows.append(dict(library=network.library, network=network.title, refused=what_fits(network)))
    args.work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(args.work_dir / "torch_networks.json", json.dumps(rows, indent=1) + "\n")
    print(report(rows), end="")


if __name__ == "__main__":
    main()
