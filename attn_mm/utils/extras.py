"""Import packages that only some commands need."""

from __future__ import annotations

import importlib
from types import ModuleType

from attn_mm.errors import UserError


def require(module: str, extra: str = "explore") -> ModuleType:
    """Import a library of an extra; if it is missing, UserError says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise UserError(f"{error.name} is not installed: pip install 'attn-mm[{extra}]'") from error
