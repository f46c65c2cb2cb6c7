"""mmpretrain and mmaction can be imported with any version of transformers.

mmpretrain 1.2.0 imports its multimodal models if transformers is 4.28 or newer
(mmpretrain/utils/dependency.py:68). It takes names from ``transformers.modeling_utils`` that version 5 lacks,
replaces all of them by None, and derives classes from that: "NoneType takes no arguments"
(mmpretrain/models/multimodal/blip/language_model.py:13), so that ``mmpretrain.models`` can't be imported.
mmaction 1.2.0 does the same with VindLU (mmaction/utils/dependency.py:66), where the missing names are an
ImportError.

With such a version the patch tells both that the multimodal models' requirements are missing. Their
configs then ask to install them; all other models work.
"""

from __future__ import annotations

import importlib
from typing import Any

from attn_mm.compat.lazy import after_import

_NEEDED = (
    "GenerationConfig",
    "GenerationMixin",
    "PreTrainedModel",
    "apply_chunking_to_forward",
    "find_pruneable_heads_and_indices",
    "prune_linear_layer",
)


def _usable() -> bool:
    try:
        modeling_utils = importlib.import_module("transformers.modeling_utils")
    # An installation that doesn't fit the others fails in any way.
    except Exception:
        return False
    return all(hasattr(modeling_utils, name) for name in _NEEDED)


def _leave_out(module: Any) -> None:
    module.WITH_MULTIMODAL = module.WITH_MULTIMODAL and _usable()


def patch() -> None:
    for framework in ("mmpretrain", "mmaction"):
        after_import(f"{framework}.utils.dependency", _leave_out)
