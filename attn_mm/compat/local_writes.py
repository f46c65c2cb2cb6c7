"""A kill or a full disk leaves no half-written checkpoint.

mmengine 0.10.7 opens the target itself for writing (mmengine/fileio/backends/local_backend.py:77 and 102), so
that an interrupted write destroys the file that was there before and leaves a truncated one of its name.

The patch writes to a temporary file in the same folder, flushes it to the disk and renames it. A failure is a
UserError that names the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from attn_mm.compat.lazy import after_import
from attn_mm.utils.files import replacing, writing


def _put(self, obj: bytes, filepath: str | os.PathLike) -> None:
    path = Path(filepath)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(obj)


def _put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = "utf-8") -> None:
    self.put(obj.encode(encoding), filepath)


def _write_atomically(module: ModuleType) -> None:
    module.LocalBackend.put = _put
    module.LocalBackend.put_text = _put_text


def patch() -> None:
    after_import("mmengine.fileio.backends.local_backend", _write_atomically)
