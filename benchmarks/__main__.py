"""Run a benchmark by its name.

    python -m benchmarks                                  # list the benchmarks
    python -m benchmarks latency --work-dir out           # the same as python -m benchmarks.latency
    python -m benchmarks latency --help                   # its options
    python -m benchmarks pages                            # write the tables of docs from docs/results

Each benchmark takes --work-dir, saves its results there as JSON beside a Markdown table, and continues where
it stopped when the command is repeated.
"""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

from attn_mm.errors import UserError, reports_user_errors

BENCHMARKS = (
    "bccd",
    "cifar10",
    "demos",
    "families",
    "forms",
    "growth",
    "latency",
    "overfit",
    "pages",
    "tdaf_overhead",
)


def first_line(name: str) -> str:
    """What a benchmark measures, without importing it."""
    text = Path(__file__).with_name(f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


@reports_user_errors
def main(argv: list[str] | None = None) -> None:
    name, *flags = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, BENCHMARKS))
        print(__doc__)
        print("\n".join(f"  {known:{width}}  {first_line(known)}" for known in BENCHMARKS))
    elif name not in BENCHMARKS:
        raise UserError(f"{name} is no benchmark; there are {', '.join(BENCHMARKS)}")
    else:
        import_module(f"benchmarks.{name}").main(flags)


if __name__ == "__main__":
    main()
