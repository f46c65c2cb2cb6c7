"""The packages that only the analyses of trained networks need."""

from __future__ import annotations

import importlib
from types import ModuleType

from attn_mm.errors import UserError


def require(module: str) -> ModuleType:
    """Import ``module``, which the extra ``explore`` brings; UserError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'attn-mm[explore]' brings it") from error
