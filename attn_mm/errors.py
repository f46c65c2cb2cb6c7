"""Errors that are the user's to mend: one line on stderr and exit status 2, no traceback."""

from __future__ import annotations

import functools
import os.path as osp
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_STATUS = 2
_INTERRUPTED = 130


class UserError(Exception):
    """A mistake in a command's input. The message is one line that names the thing and the way out."""


class ConfigError(UserError, ValueError):
    """A config asks of a model what it can't be."""


class UnreadableFile(UserError):
    """A file that can't be read, in one line, also where a worker process has found it."""

    def __init__(self, message: str) -> None:
        # torch raises a worker's error again with the worker's traceback as its message.
        last = message.strip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))

    @classmethod
    def after(cls, error: Exception, path: str, kind: str) -> UnreadableFile:
        """The ``error`` of what should have read ``path`` as ``kind``, such as "an image", in one line."""
        return cls(f"{path} can't be read as {kind}: {_reason(error, path)}")


def _reason(error: Exception, path: str) -> str:
    if "://" not in path and not osp.exists(path):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is damaged or of another format"


def reports_user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main``: a user's mistake becomes ``error: ...`` on stderr and ``SystemExit(2)``.

    Reported so are :class:`UserError` and :class:`CheckpointError`; Ctrl-C becomes ``interrupted`` and
    ``SystemExit(130)``. Any other exception is a fault of the program and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except (UserError, CheckpointError) as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(EXIT_STATUS) from None
        except KeyboardInterrupt as interrupt:
            print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
            raise SystemExit(_INTERRUPTED) from None

    return run


@contextmanager
def resumable(advice: str = "the same command goes on where it stopped") -> Iterator[None]:
    """Within this context Ctrl-C is reported with that advice."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None


class CheckpointError(RuntimeError):
    """A checkpoint can't be had. The message is one line that names the file and the way out."""


class UnsafeCheckpointError(CheckpointError):
    """The file asks for code that no checkpoint needs; nothing of it was run."""


class PretrainedUnavailableError(CheckpointError):
    """Pretrained weights can't be fetched."""
