"""A config inside a checkpoint is never run.

mmengine 0.10.7 gives the text of a config that it finds in a checkpoint to
``Config.fromstring``, which executes it: on resuming (mmengine/runner/runner.py:2028,
_flexible_runner.py:1470), and in an inferencer that gets weights but no config
(mmengine/infer/infer.py:476). Reading the text without executing it would not help there: a
config names what is built, and the registries build any function by its path.

:mod:`attn_mm.compat.checkpoints` removes the text for which resuming looks. The patch here
keeps the texts from the inferencer, which then says that it needs a config.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import after_import


def without_configs(checkpoint: Any) -> Any:
    """Remove the texts that an inferencer would run from a loaded checkpoint, and return it."""
    hub = checkpoint.get("message_hub")
    for place in (checkpoint.get("meta"), hub.get("runtime_info") if isinstance(hub, dict) else None):
        if isinstance(place, dict):
            place.pop("cfg", None)
    return checkpoint


def _replace_loader(module: ModuleType) -> None:
    load = module._load_checkpoint
    module._load_checkpoint = lambda *args, **options: without_configs(load(*args, **options))  # type: ignore[attr-defined]


def patch() -> None:
    after_import("mmengine.infer.infer", _replace_loader)
