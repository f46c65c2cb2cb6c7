"""Let only one process at a time use a folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from attn_mm.errors import UserError
from attn_mm.utils.files import writing

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextlib.contextmanager
def sole_user(folder: Path, flag: str) -> Iterator[None]:
    """Lock a folder against other processes while this context lasts, and no longer than this process.

    The lock is one of POSIX: other machines that share the folder over NFS respect it, and the processes
    that load data don't inherit it.

    Args:
        folder: the folder. Nothing else may open its file ``.lock``.
        flag: the command line flag that names another folder, for the error message.

    Raises:
        UserError: another process uses the folder, or the file can't be written.
    """
    with writing(folder / NAME):
        file = (folder / NAME).open("a+", encoding="utf-8")
    with file:
        _lock(file, folder, flag)
        yield


def _lock(file, folder: Path, flag: str) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(f"{folder} is in use by {holder}: wait for it, or name another {flag}") from error
    # A file system without locks.
    except OSError:
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
