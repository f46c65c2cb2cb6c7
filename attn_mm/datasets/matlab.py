"""MATLAB files, the format of some data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_mm.errors import UserError


def load_mat(path: Path) -> dict[str, Any]:
    """Load the variables of a ``.mat`` file.

    Raises:
        UserError: if SciPy or the file is missing, or the file is damaged.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"reading {path.name} needs SciPy: pip install scipy") from error
    if not path.is_file():
        raise UserError(f"{path} is missing: docs/data.md says where to get it")
    try:
        return loadmat(str(path))
    except Exception as error:
        # A damaged file makes SciPy raise any exception.
        raise UserError(
            f"{path} can't be read as a MATLAB file: it is damaged or of another format"
        ) from error
