"""A config with ``read_base`` can inherit one with ``_base_``.

mmengine 0.10.7 (``Config._get_base_modules``, config/config.py:571) refuses a file of ``read_base`` that
assigns ``_base_``. attn_mm's configs do, and so does every config of OpenMMLab outside of ``mm*/configs/``.

The patch reads such a file as ``Config.fromfile`` does.
"""

from __future__ import annotations

import ast
from functools import wraps
from pathlib import Path
from types import ModuleType

from attn_mm.compat.lazy import after_import


def _inherits(filename: str) -> bool:
    """Whether a file assigns ``_base_``."""
    nodes = ast.parse(Path(filename).read_text(encoding="utf-8")).body
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Name) and target.id == "_base_" for target in targets)


def _read_bases(module: ModuleType) -> None:
    plain = module.Config._parse_lazy_import

    @wraps(plain)
    def parse_lazy_import(filename):
        if not _inherits(filename):
            return plain(filename)
        return module.Config.fromfile(filename, lazy_import=False)._cfg_dict, set()

    module.Config._parse_lazy_import = staticmethod(parse_lazy_import)


def patch() -> None:
    after_import("mmengine.config.config", _read_bases)
