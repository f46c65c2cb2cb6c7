"""What only some tools need, and an installation may lack."""

from __future__ import annotations

import importlib
from types import ModuleType

from attn_mm.errors import UserError


def require(module: str) -> ModuleType:
    """Import ``module``; UserError that says how to get it where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install attn-mm[explore]") from error
