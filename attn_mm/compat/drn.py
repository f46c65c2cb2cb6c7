"""``import mmaction.models`` works without DRN.

The wheel of mmaction2 1.2.0 lacks the package ``mmaction.models.localizers.drn``,
but mmaction/models/localizers/__init__.py:4 imports it, so
``import mmaction.models`` fails. The patch provides and registers a class DRN that
raises an error when it is built.
"""

from __future__ import annotations

from typing import Any

from attn_mm.compat.lazy import serve


def _drn(module: Any) -> None:
    from mmaction.registry import MODELS

    @MODELS.register_module()
    class DRN:
        """Raises an error that says why DRN is missing."""

        def __init__(self, *args, **kwargs) -> None:
            raise NotImplementedError(
                "DRN is missing from the wheel of mmaction2 1.2.0: to use it, install mmaction2 from its git "
                "repository"
            )

    module.DRN = DRN


def patch() -> None:
    serve("mmaction.models.localizers.drn")
    serve("mmaction.models.localizers.drn.drn", _drn)
