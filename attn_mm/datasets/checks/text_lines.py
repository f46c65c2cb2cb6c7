"""Read text files with an entry per line."""

from __future__ import annotations

from pathlib import Path

from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular


def read_lines(path: str) -> list[str]:
    """The lines of a text file.

    Raises:
        UserError: it can't be read, or is not UTF-8 without a byte order mark.
    """
    check_regular(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8: byte {error.start} is no character") from error
    if text.startswith("\ufeff"):
        raise UserError(f"{path} begins with a byte order mark: save it as UTF-8 without one")
    # What ends a line for the frameworks, too.
    return text.removesuffix("\n").split("\n") if text else []
