"""``mmaction.models`` imports without DRN.

The wheel of mmaction2 1.2.0 lacks the package ``mmaction.models.localizers.drn``,
which mmaction/models/localizers/__init__.py:4 imports, so that
``import mmaction.models`` fails. A stand-in takes its place, in the registry too.
"""

from __future__ import annotations

from typing import Any

from attn_mm.compat.lazy import serve


def _drn(module: Any) -> None:
    from mmaction.registry import MODELS

    @MODELS.register_module()
    class DRN:
        """Says why there is no DRN."""

        def __init__(self, *args, **kwargs) -> None:
            raise NotImplementedError(
                "DRN is missing from the wheel of mmaction2 1.2.0; install mmaction2 from its git repository "
                "to use it"
            )

    module.DRN = DRN


def mend() -> None:
    serve("mmaction.models.localizers.drn")
    serve("mmaction.models.localizers.drn.drn", _drn)
