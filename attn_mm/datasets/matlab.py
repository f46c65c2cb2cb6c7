"""Files of MATLAB, in which some data sets come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_mm.errors import UserError


def load_mat(path: Path) -> dict[str, Any]:
    """The variables of a ``.mat`` file.

    Raises:
        UserError: SciPy is missing, or the file is missing or damaged.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"{path.name} is read with SciPy: pip install scipy") from error
    if not path.is_file():
        raise UserError(f"{path} is missing: docs/data.md says where it comes from")
    try:
        return loadmat(str(path))
    except Exception as error:
        # SciPy raises whatever a damaged file makes it meet.
        raise UserError(
            f"{path} can't be read as a MATLAB file: it is damaged or of another format"
        ) from error
