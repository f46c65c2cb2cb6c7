"""A config's text is laid out once.

mmengine 0.10.7 (``Config._to_str``, config/config.py:1484) runs yapf over the whole config whenever it logs,
dumps or saves it: five times at a run's start and again with every checkpoint, 0.6 s each time.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from attn_mm.compat.lazy import after_import


def _remember(module: Any) -> None:
    plain = module.FormatCode
    last: dict[tuple[str, str], tuple] = {}

    @wraps(plain)
    def format_code(text, **options):
        key = (text, repr(options))
        if key not in last:
            result = plain(text, **options)
            last.clear()
            last[key] = result
        return last[key]

    module.FormatCode = format_code


def patch() -> None:
    after_import("mmengine.config.config", _remember)
