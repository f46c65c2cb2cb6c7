"""The checkpoint hook deletes an old checkpoint only after the new one is on the disk.

mmengine 0.10.7 deletes first and saves then (mmengine/hooks/checkpoint_hook.py:418 and 540), so that
``max_keep_ckpts=1`` loses the only checkpoint if the process is killed while it saves or if the disk is full.
It also opens ``last_checkpoint`` for writing in place (:463): a kill leaves it empty. And it deletes what the
checkpoint that a run resumes from names as the best or as an old one (:298 and :313), any file or folder.

The patch queues what the hook removes while it saves, and removes it after a save that succeeded, if it is a
checkpoint in the hook's own folder. ``last_checkpoint`` is replaced atomically.
"""

from __future__ import annotations

import os.path as osp
import re
from collections.abc import Callable
from functools import partial, wraps
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from attn_mm.compat.lazy import after_import
from attn_mm.utils.files import write_atomically


class _RemovesLater:
    """A file backend that only notes what it should remove."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    # Checkpoints of DeepSpeed are folders.
    rmtree = remove


def _is_own(hook: Any, path: str) -> bool:
    """Whether a path is that of a checkpoint right in the hook's folder."""
    own_name = "(best_.+_)?" + r"\d+".join(map(re.escape, re.split(r"{.*?}", hook.filename_tmpl)))
    in_folder = osp.realpath(osp.dirname(path)) == osp.realpath(hook.out_dir)
    return in_folder and re.fullmatch(own_name, osp.basename(path)) is not None


def _numbering(before_train: Callable) -> Callable:
    @wraps(before_train)
    def wrapped(self, runner) -> None:
        kept = runner.message_hub.runtime_info.get("keep_ckpt_ids")
        if isinstance(kept, list):
            # Into the name of a file that is removed.
            kept[:] = [step for step in kept if isinstance(step, int)]
        before_train(self, runner)

    return wrapped


def _removing_later(save: Callable) -> Callable:
    @wraps(save)
    def wrapped(self, *args, **kwargs) -> None:
        backend = self.file_backend
        self.file_backend = later = _RemovesLater(backend)
        try:
            save(self, *args, **kwargs)
        finally:
            self.file_backend = backend
        # A validation that is repeated saves under the name of the previous best.
        for path in filter(partial(_is_own, self), set(later.outdated) - _saved(self)):
            (backend.rmtree if backend.isdir(path) else backend.remove)(path)

    return wrapped


def _saved(hook: Any) -> set[str | None]:
    several = getattr(hook, "best_ckpt_path_dict", {})
    return {hook.last_ckpt, getattr(hook, "best_ckpt_path", None), *several.values()}


class _Replaced(StringIO):
    """A text file that is written atomically when it is closed; the hook writes ``last_checkpoint`` to it."""

    def __init__(self, path: str, mode: str) -> None:
        super().__init__()
        self._path = Path(path)

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            write_atomically(self._path, self.getvalue())


def _save_before_removing(module: ModuleType) -> None:
    hook = module.CheckpointHook
    for name in ("_save_checkpoint_with_step", "_save_best_checkpoint"):
        setattr(hook, name, _removing_later(getattr(hook, name)))
    hook.before_train = _numbering(hook.before_train)
    # It opens no other file.
    vars(module)["open"] = _Replaced


def patch() -> None:
    after_import("mmengine.hooks.checkpoint_hook", _save_before_removing)
