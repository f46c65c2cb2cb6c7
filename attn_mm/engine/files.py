"""Writing files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from attn_mm.errors import UserError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where the file system refuses what is done inside, UserError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror})") from error


def make_folder(out: str | Path) -> Path:
    """Make the output folder, before the work whose result goes there; UserError where that fails."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} can't be made ({error.strerror})") from error
    return out


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all; UserError where that fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    with writing(path):
        temporary.write_text(text)
        os.replace(temporary, path)
