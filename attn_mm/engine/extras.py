"""Libraries that only the analyses of trained networks need."""

from __future__ import annotations

import importlib
from types import ModuleType

from attn_mm.errors import UserError


def require(module: str) -> ModuleType:
    """The module of that name; UserError where its library is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, and this tool needs it: pip install attn-mm[explore]"
        ) from error
