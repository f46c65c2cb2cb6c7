"""Operators for mmcv-lite, which lacks the compiled module ``mmcv._ext``.

Every ``mmcv/ops/*.py`` loads that module when imported, so ``mmdet.models`` and
``mmpose.models`` can't be imported without it. This patch provides ``mmcv._ext``
with torchvision's operators and plain torch, on any device, with the calling
conventions of mmcv 2.1's wrappers. If a compiled mmcv is installed, its own module
is used.
"""

from __future__ import annotations

from typing import Any

from attn_mm.compat.lazy import serve


class CompiledOpMissing(NotImplementedError):
    """Raised by calling an operator that only a compiled mmcv has."""


def patch() -> None:
    """Provide ``mmcv._ext`` if no compiled mmcv is installed."""
    serve("mmcv._ext", _fill)


def _fill(module: Any) -> None:
    from attn_mm.compat.mmcv_ops import deform_conv, focal_loss, nms, roi

    module.__doc__ = "Replacement of mmcv's compiled operators by attn_mm.compat.mmcv_ops."
    for source in (deform_conv, focal_loss, nms, roi):
        for name in source.__all__:
            setattr(module, name, getattr(source, name))
    module.get_compiler_version = lambda: "none (ops served by attn_mm)"
    # What mmcv's own builds without CUDA answer.
    module.get_compiling_cuda_version = lambda: "not available"

    def missing(name: str):
        # The wrappers assert at import that every op exists, so absence may only show in the call.
        if name.startswith("_"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return _missing_op(name)

    module.__getattr__ = missing


def _missing_op(name: str):
    def op(*args, **kwargs):
        raise CompiledOpMissing(
            f"{name} needs a compiled mmcv, but mmcv-lite is installed: build mmcv 2.1.0 instead, "
            "see 'Compiled mmcv' in docs/install.md"
        )

    return op
