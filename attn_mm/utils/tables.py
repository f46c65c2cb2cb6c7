"""Markdown tables that also read well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """Format a Markdown table with aligned columns.

    Args:
        header: names of the columns.
        rows: one string per column in each row.
        numbers: names of the right-aligned columns.
    """
    # Columns that no row fills would only widen the table.
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    widths = {i: max(3, *(len(row[i]) for row in [header, *rows])) for i in kept}
    right = {i for i in kept if header[i] in numbers}

    def line(cells: Sequence[str]) -> str:
        padded = (cells[i].rjust(widths[i]) if i in right else cells[i].ljust(widths[i]) for i in kept)
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (widths[i] - 1) + (":" if i in right else "-") if i in widths else ""
        for i in range(len(header))
    ]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def counted(number: int, noun: str) -> str:
    """The number and the noun, such as "1 image" or "2 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
