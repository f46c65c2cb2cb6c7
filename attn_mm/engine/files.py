"""Writing files."""

from __future__ import annotations

import os
from pathlib import Path

from attn_mm.errors import UserError


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all; UserError where that fails."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror})") from error
