"""The output of an analysis: a folder with JSON and pictures, and a table on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from attn_mm.utils.files import make_folder, write_atomically


class Output:
    """An output folder, made on construction.

    Args:
        folder: path of the folder.

    Raises:
        UserError: the folder can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file(".")

    def file(self, name: str) -> Path:
        """The path of a file in the folder; makes missing subfolders."""
        path = self.folder / name
        make_folder(path.parent)
        return path

    def write(self, name: str, record: dict) -> None:
        """Write a record as JSON and print where the results are."""
        write_atomically(self.file(name), json.dumps(record, indent=1) + "\n")
        print(f"{self.folder}: {name} and its pictures")

    @staticmethod
    def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table whose first column names the rows."""
        table = Table(title=title)
        for place, name in enumerate(head):
            table.add_column(name, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        Console(soft_wrap=True, highlight=False).print(table)


def percent(share: float) -> str:
    """Format a share from 0 to 1 as a percentage with two decimals, as in the papers."""
    return f"{100 * share:.2f}"
