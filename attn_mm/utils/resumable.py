"""Save the partial results of a long run, so that it can continue after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import os.path as osp
from pathlib import Path
from typing import Any

from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular, writing

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Partial(contextlib.AbstractContextManager):
    """The partial results of a run, one line of JSON per item, in a file beside the final one.

    Args:
        path: the file; an existing one is continued.
        about: the settings of the run, written as the first line.
        flag: the command line flag that names another place, for error messages.

    Attributes:
        found: the result of each finished item by the item's key, in the order of the lines.

    Raises:
        UserError: the file belongs to a run with other settings, is damaged, can't be written, or another
            run is writing it.
    """

    def __init__(self, path: Path, about: dict, flag: str) -> None:
        self.path, self._flag, self._advice = path, flag, f"remove it, or name another {flag}"
        self.found: dict[int | str, Any] = {}
        check_regular(path)
        with writing(path):
            self._file = self.path.open("a", encoding="utf-8")
            try:
                self._lock()
                self._open(about)
            except BaseException:
                self._file.close()
                raise

    def _lock(self) -> None:
        """Lock the file against other runs until it is closed or the process ends."""
        try:
            if fcntl:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{self.path}: another run is writing it; name another {self._flag}") from error

    def _open(self, about: dict) -> None:
        # As it is read again: JSON has no tuples, and keys are strings.
        about = json.loads(json.dumps(about))
        lines, intact = self._lines()
        if lines and lines[0] != about:
            differing = ", ".join(key for key in about if lines[0].get(key) != about[key])
            raise UserError(f"{self.path} is of an interrupted run with another {differing}: {self._advice}")
        self.found.update((line["key"], line["found"]) for line in lines[1:])
        self._file.truncate(intact)
        if not lines:
            self._write(about)

    def _lines(self) -> tuple[list[dict], int]:
        """Read the lines and their length in bytes; drops a last line that a kill left incomplete."""
        lines, intact = [], 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                lines.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UserError(f"{self.path} is damaged: {self._advice}") from error
            if not isinstance(lines[-1], dict) or (intact and not _is_item(lines[-1])):
                raise UserError(f"{self.path} is damaged: {self._advice}")
            intact += len(line)
        return lines, intact

    def _write(self, line: dict) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def add(self, key: int | str, found: object) -> None:
        """Save the result of an item; the key and the result must be JSON-serialisable."""
        self.found[key] = found
        with writing(self.path):
            self._write({"key": key, "found": found})

    def __exit__(self, *_) -> None:
        self._file.close()
        if not self.found:
            # It would only stand in the way of a run with a mistake mended.
            self.path.unlink(missing_ok=True)


def _is_item(line: dict) -> bool:
    return line.keys() == {"key", "found"} and isinstance(line["key"], (int, str))


def identity(path: str) -> list:
    """Identify a file's content, to notice another file of the same name."""
    if not osp.exists(path):
        return [path]
    return [osp.abspath(path), osp.getsize(path), os.stat(path).st_mtime_ns]
