"""Errors that the user can correct: one line on stderr and exit status 2, no traceback."""

from __future__ import annotations

import functools
import os.path as osp
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_STATUS = 2
_INTERRUPTED = 130
_MAX_LENGTH = 500


def one_line(text: str) -> str:
    """Escape control characters and other unprintable ones, and cut out the middle of a long text."""
    escaped = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    if len(escaped) <= _MAX_LENGTH:
        return escaped
    return f"{escaped[: _MAX_LENGTH * 2 // 3]} ... {escaped[-_MAX_LENGTH // 4 :]}"


class UserError(Exception):
    """A mistake in a command's input. The message is one line: what is wrong, where, and what to do."""


class ConfigError(UserError, ValueError):
    """A config describes a model that can't be built."""


class UnreadableFile(UserError):
    """A file can't be read. The message is one line, even if a worker process raised the error."""

    def __init__(self, message: str) -> None:
        # torch re-raises a worker's error with the worker's traceback as its message.
        last = message.strip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))

    @classmethod
    def after(cls, error: Exception, path: str, kind: str) -> UnreadableFile:
        """Turn the ``error`` from reading ``path`` as ``kind``, such as "an image", into one line."""
        return cls(f"{path} can't be read as {kind}: {_reason(error, path)}")


class UnsuitableImage(UnreadableFile):
    """An image is not what its annotations say, or has more than 8 bits per channel."""


def _reason(error: Exception, path: str) -> str:
    if "://" not in path and not osp.exists(path):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is damaged or of another format"


def reports_user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main`` to report the user's mistakes without a traceback.

    Catches :class:`UserError` and :class:`CheckpointError`, prints ``error: ...`` on stderr and raises
    ``SystemExit(2)``. Ctrl-C prints ``interrupted`` and raises ``SystemExit(130)``. Any other exception is a
    bug and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except (UserError, CheckpointError) as error:
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            raise SystemExit(EXIT_STATUS) from None
        except KeyboardInterrupt as interrupt:
            print(": ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
            raise SystemExit(_INTERRUPTED) from None

    return run


@contextmanager
def resumable(advice: str = "repeat the command to continue where it stopped") -> Iterator[None]:
    """In this context, Ctrl-C is reported with ``advice``."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(advice) from None


class CheckpointError(RuntimeError):
    """A checkpoint can't be loaded. The message is one line: what is wrong, where, and what to do."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """The checkpoint's file doesn't exist."""


class UnsafeCheckpointError(CheckpointError, pickle.UnpicklingError):
    """The file names code that no checkpoint needs; none of it was run."""


class PretrainedUnavailableError(CheckpointError):
    """Pretrained weights can't be downloaded."""
