"""mmcv-lite ships mmcv's Python op wrappers without the compiled module ``mmcv._ext`` behind them.

Every ``mmcv/ops/*.py`` loads that module when imported, so ``mmdet.models`` and
``mmpose.models`` cannot be imported at all. This mend serves ``mmcv._ext`` from
torchvision's operators and plain torch, on any device, with the calling
conventions of mmcv 2.1's wrappers. A compiled mmcv brings the real module, which
always wins.
"""

from __future__ import annotations

from typing import Any

from attn_mm.compat.lazy import serve


class CompiledOpMissing(NotImplementedError):
    """Raised by the call of an op that only a compiled mmcv has."""


def mend() -> None:
    """Serve ``mmcv._ext`` where no compiled one is installed."""
    serve("mmcv._ext", _fill)


def _fill(module: Any) -> None:
    from attn_mm.compat.mmcv_ops import deform_conv, focal_loss, nms, roi

    module.__doc__ = "Stand-in for mmcv's compiled ops, served by attn_mm.compat.mmcv_ops."
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
            f"{name} needs a compiled mmcv, and mmcv-lite is installed: docs/install.md says "
            "under 'Compiled mmcv' how to build mmcv 2.1.0 in its place"
        )

    return op
