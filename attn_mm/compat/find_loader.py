"""``pkgutil.find_loader``, which Python 3.14 removed.

mmengine 0.10.7 (mmengine/utils/dl_utils/misc.py:109) and mmcv 2.1.0 (mmcv/utils/ext_loader.py:71) ask it
whether mmcv has compiled operations.

The patch adds the function if Python lacks it, with its old meaning.
"""

from __future__ import annotations

import pkgutil
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any


def _find_loader(fullname: str) -> Any:
    spec: ModuleSpec | None = find_spec(fullname)
    return spec and spec.loader


def patch() -> None:
    if "find_loader" not in vars(pkgutil):
        vars(pkgutil)["find_loader"] = _find_loader
