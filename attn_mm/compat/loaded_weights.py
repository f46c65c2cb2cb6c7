"""Weights that make no network are refused on every path that loads them.

mmengine 0.10.7 (mmengine/runner/checkpoint.py:58) and torch copy into a network whatever has the right shape:
NaN, infinite or negative variances, and integers or complex numbers, which are converted in silence. The
network then trains or predicts with them.

The patch looks at the weights before mmengine loads them, for ``init_cfg``, ``pretrained`` and ``load_from``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import after_import
from attn_mm.errors import CheckpointError


class _Damaged(CheckpointError):
    """Says what is wrong, but not in which file."""

    def __init__(self, wrong: str) -> None:
        super().__init__(f"the checkpoint is damaged: {wrong}")
        self.wrong = wrong


def _checking(load: Callable) -> Callable:
    @wraps(load)
    def load_state_dict(module: Any, state_dict: Any, *args, **kwargs) -> Any:
        from attn_mm.utils.weights import without_wrapper, wrong_weight

        wrong = wrong_weight(getattr(module, "module", module), without_wrapper(state_dict))
        if wrong:
            raise _Damaged(wrong)
        return load(module, state_dict, *args, **kwargs)

    return load_state_dict


def _naming(load: Callable, file: Callable[..., Any]) -> Callable:
    @wraps(load)
    def named(*args, **kwargs) -> Any:
        try:
            return load(*args, **kwargs)
        except _Damaged as error:
            raise CheckpointError(f"{os.fspath(file(*args, **kwargs))} is damaged: {error.wrong}") from None

    return named


def _check_loaded(module: ModuleType) -> None:
    functions = vars(module)
    functions["load_state_dict"] = _checking(module.load_state_dict)
    functions["load_checkpoint"] = _naming(
        module.load_checkpoint, lambda model, filename, *args, **kwargs: filename
    )


def _name_pretrained(module: ModuleType) -> None:
    kind = module.PretrainedInit
    kind.__call__ = _naming(kind.__call__, lambda init, *args: init.checkpoint)


def patch() -> None:
    after_import("mmengine.runner.checkpoint", _check_loaded)
    after_import("mmengine.model.weight_init", _name_pretrained)
