"""Images and videos that can't be read: named, and in training left out."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log

from attn_mm.errors import UnreadableFile

# More of them in a row are no accident but a wrong folder.
MAX_IN_A_ROW = 50

# By the key of a sample that holds a file's name, what the file is, and what several are.
KINDS = {"img_path": ("an image", "images"), "filename": ("a video", "videos")}

# Of the frameworks' transforms, those that read images, and those that open and decode videos.
_LOADERS = {"LoadImageFromFile"}
_OPENERS = {"OpenVideo", "DecordInit", "OpenCVInit", "PIMSInit", "PyAVInit"}
_DECODERS = {"ReadFrames", "DecordDecode", "OpenCVDecode", "PIMSDecode", "PyAVDecode"}


def reading_steps(steps: Sequence[Callable]) -> Iterator[tuple[int, str, bool]]:
    """Of a pipeline's steps those that read a file: place, key of its name, whether it is read then."""
    for place, step in enumerate(steps):
        names = {base.__name__ for base in type(step).__mro__}
        if names & _LOADERS:
            yield place, "img_path", True
        elif names & (_OPENERS | _DECODERS):
            yield place, "filename", bool(names & _DECODERS)


class ReadFile:
    """A transform that reads a file, with one error for all that may go wrong in it.

    Args:
        load: the transform, from a sample with the file's name to the same with what is in it.
        key: where the sample has the name; one of ``KINDS``.

    Raises:
        UnreadableFile: when called, where ``load`` fails.
    """

    def __init__(self, load: Callable[[dict], dict], key: str) -> None:
        self.load, self.key = load, key

    def __call__(self, results: dict) -> dict | None:
        try:
            return self.load(results)
        except UnreadableFile:
            raise
        except Exception as error:
            # Decoders and storage backends raise what they like.
            raise UnreadableFile.after(error, results[self.key], KINDS[self.key][0]) from error

    def __repr__(self) -> str:
        return repr(self.load)


def name_unreadable(steps: list[Callable]) -> None:
    """Let those of a pipeline's steps that read a file do so through :class:`ReadFile`."""
    for place, key, _ in list(reading_steps(steps)):
        steps[place] = ReadFile(steps[place], key)


def flags_of_files() -> torch.Tensor:
    """A flag for each file name's hash, shared with the worker processes that get it."""
    return torch.zeros(2**20, dtype=torch.bool).share_memory_()


class Unread:
    """Names the files of a data set that can't be read, each once.

    Args:
        named: :func:`flags_of_files`: which have been named.
        run: what goes on without them.
        limited: whether ``MAX_IN_A_ROW`` are the most in a row.
    """

    def __init__(self, named: torch.Tensor, run: str, limited: bool) -> None:
        self.named, self.run, self.limited = named, run, limited
        self.in_a_row = 0

    def note(self, path: str, key: str, error: UnreadableFile) -> None:
        """Name a file; UnreadableFile where it is one too many in a row."""
        self.in_a_row += 1
        if self.limited and self.in_a_row > MAX_IN_A_ROW:
            raise UnreadableFile(
                f"{self.in_a_row} {KINDS[key][1]} in a row can't be read; {error}"
            ) from error
        place = zlib.crc32(path.encode()) % len(self.named)
        if not self.named[place]:
            self.named[place] = True
            # Processes other than the first print nothing less than an error.
            level = logging.WARNING if get_rank() == 0 else logging.ERROR
            print_log(f"{error}; {self.run} goes on without it", logger="current", level=level)


class SkipUnreadable(ReadFile):
    """Gives None for a file that can't be read, for which a data set takes another, and has it named.

    Args:
        load: the transform.
        key: where a sample has the file's name.
        unread: shared by the steps that read the same files.
        last: whether a file is read when ``load`` is done.

    Raises:
        UnreadableFile: when called, where too many before can't be read either.
    """

    def __init__(self, load: Callable[[dict], dict], key: str, unread: Unread, last: bool) -> None:
        super().__init__(load, key)
        self.unread, self.last = unread, last

    def __call__(self, results: dict) -> dict | None:
        path = results[self.key]
        try:
            loaded = super().__call__(results)
        except UnreadableFile as error:
            self.unread.note(path, self.key, error)
            return None
        if self.last:
            self.unread.in_a_row = 0
        return loaded
