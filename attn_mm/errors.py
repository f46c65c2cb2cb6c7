"""Errors that the user can correct: one line on stderr and exit status 2, no traceback."""

from __future__ import annotations

import errno
import functools
import io
import os
import os.path as osp
import pickle
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeGuard

from attn_mm.interrupts import raise_interrupts
from attn_mm.sigterm import handling_sigterm

EXIT_STATUS = 2
_PIPE_STATUS = 141
"""Of a command whose output nobody reads any more, as a shell has it."""


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
    """An image is not what its annotations say, has more than 8 bits per channel, or is too narrow."""


class UnsuitableLabelMap(UnreadableFile):
    """A label map is missing or damaged, or doesn't fit its image or the classes of its data set."""


class UnsafeFile(UnreadableFile, pickle.UnpicklingError):
    """A file of data asks for code, or for more memory than it needs; nothing of it was run."""


def _reason(error: Exception, path: str) -> str:
    if "://" not in path and not osp.exists(path):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is damaged or of another format"


class Terminated(BaseException):
    """SIGTERM has arrived. Like KeyboardInterrupt it is no error; the message says how to continue."""


_STOPS = {KeyboardInterrupt: ("interrupted", 130), Terminated: ("terminated", 143)}
"""What a command says and its exit status when it is stopped, as a shell has them."""


def _terminate(*_) -> None:
    raise Terminated


def reports_user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main`` to report the user's mistakes without a traceback.

    Catches :class:`UserError`, :class:`CheckpointError`, a full disk and a lack of memory, prints
    ``error: ...`` in one line on stderr and raises ``SystemExit(2)``. Ctrl-C prints ``interrupted`` and
    raises ``SystemExit(130)``; SIGTERM prints ``terminated`` and raises ``SystemExit(143)``. Any other
    exception is a bug and keeps its traceback. If the reader of the output has gone, as with ``| head``,
    the command ends in silence, with status 141.
    """

    @functools.wraps(main)
    def run(*args, **kwargs):
        for stream in (sys.stdout, sys.stderr):
            # A locale may lack the letters of a name; that is no reason to fail.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            raise_interrupts()
            with handling_sigterm(_terminate):
                result = main(*args, **kwargs)
                if sys.stdout is not None:  # a daemon may have closed it
                    sys.stdout.flush()
                return result
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise SystemExit(_PIPE_STATUS) from None
            message = _message(error)
            # Developers ask Python for more: python -X dev.
            if message is None or sys.flags.dev_mode:
                raise
            _say(f"error: {one_line(message)}")
            raise SystemExit(EXIT_STATUS) from None
        except (KeyboardInterrupt, Terminated) as stop:
            word, status = _STOPS[type(stop)]
            _say(": ".join([word, *map(str, stop.args)]))
            raise SystemExit(status) from None

    return run


def _say(line: str) -> None:
    """Write a line on stderr, if it is there and somebody reads it: the status counts in any case."""
    if sys.stderr is not None:
        with suppress(OSError):
            # In one piece: a library's own writing would get between a line and its end.
            sys.stderr.write(f"{line}\n")


def _nobody_reads() -> bool:
    """Whether the reader of our output has gone, such as ``| head``; what is left of it is dropped."""
    if sys.stdout is None:
        return False
    output = select.poll()
    output.register(sys.stdout, 0)
    # The pipe of a worker process can break, too, and that is an error.
    gone = bool(output.poll(0))
    if gone:
        # Python writes the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def check_current_folder() -> None:
    """End Python with one line if the current folder was deleted: oneMKL would abort it with a wrong one."""
    try:
        os.getcwd()
    except FileNotFoundError:
        _say("error: the current folder no longer exists: change to another one")
        raise SystemExit(EXIT_STATUS) from None


def is_disk_full(error: Exception) -> TypeGuard[OSError]:
    """Whether a file can't be written for lack of space."""
    return isinstance(error, OSError) and error.errno in _FULL


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a CPU, where torch raises a RuntimeError, or on a GPU."""
    named = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return named or "can't allocate memory" in str(error)


def _message(error: Exception) -> str | None:
    """What to tell the user, or None if the error is a bug."""
    if isinstance(error, (UserError, CheckpointError)):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory: use smaller batches or images, or a machine with more"
    if is_disk_full(error):
        return f"{error.filename or 'a file'} can't be written ({error.strerror}): free some space"
    return None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# With "error: " before it, a line has less than 200 characters.
_LONGEST = 192
_LONGEST_PATH = 40


def readable(text: str) -> str:
    """A text with the letters of a file name that the locale lacks, which Python has as surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """A text with escapes in place of line breaks and of all else that doesn't print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(message: str) -> str:
    """Put a message on one line of less than 193 characters, without control characters.

    Paths in a long message lose their middle, the longest ones first; if that is not enough, the message
    does.
    """
    text = " ".join(readable(message).split())
    text = printable(text)
    for path in sorted((word for word in text.split() if "/" in word), key=len, reverse=True):
        longest = max(_LONGEST_PATH, len(path) + _LONGEST - len(text))
        if len(path) > longest and len(text) > _LONGEST:
            text = text.replace(path, _without_middle(path, longest, beginning=longest // 3))
    # What to do is at the end.
    return _without_middle(text, _LONGEST, beginning=_LONGEST * 2 // 3)


def _without_middle(text: str, longest: int, beginning: int) -> str:
    """The beginning and the end of a text, if it is longer than that."""
    return text if len(text) <= longest else f"{text[:beginning]}...{text[beginning + 3 - longest :]}"


@contextmanager
def resumable(advice: str = "repeat the command to continue where it stopped") -> Iterator[None]:
    """In this context, Ctrl-C and SIGTERM are reported with ``advice``, unless they come with their own."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        raise stop if stop.args else type(stop)(advice) from None


class CheckpointError(RuntimeError):
    """A checkpoint can't be loaded. The message is one line: what is wrong, where, and what to do."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """The checkpoint's file doesn't exist."""


class UnsafeCheckpointError(CheckpointError, pickle.UnpicklingError):
    """The file names code that no checkpoint needs; none of it was run."""


class PretrainedUnavailableError(CheckpointError):
    """Pretrained weights can't be downloaded."""
