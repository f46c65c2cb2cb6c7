"""Unreadable images and videos: report each once and, in training, skip it."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log

from attn_mm.datasets.checks.image_files import Sizes, annotated_size, check_size
from attn_mm.datasets.media import check_depth
from attn_mm.errors import UnreadableFile, one_line

# More of them in a row mean a wrong folder.
MAX_IN_A_ROW = 50

# By the sample's key with the file name: the kind of file, singular and plural.
KINDS = {"img_path": ("an image", "images"), "filename": ("a video", "videos")}

# The frameworks' transforms that read images, and those that open and decode videos.
_LOADERS = {"LoadImageFromFile"}
_OPENERS = {"OpenVideo", "DecordInit", "OpenCVInit", "PIMSInit", "PyAVInit"}
_DECODERS = {"ReadFrames", "DecordDecode", "OpenCVDecode", "PIMSDecode", "PyAVDecode"}


def reading_steps(steps: Sequence[Callable]) -> Iterator[tuple[int, str, bool]]:
    """Find the steps that read a file: their index, the key of the file name, whether reading is complete."""
    for place, step in enumerate(steps):
        names = {base.__name__ for base in type(step).__mro__}
        if names & _LOADERS:
            yield place, "img_path", True
        elif names & (_OPENERS | _DECODERS):
            yield place, "filename", bool(names & _DECODERS)


class ReadFile:
    """Wraps a transform that reads a file, so that every failure raises the same error.

    Args:
        load: the transform; it adds the file's content to the sample.
        key: the sample's key with the file name, one of ``KINDS``.
        sizes: the annotated width and height of each image id, if the samples don't have them.

    Raises:
        UnreadableFile: when called, if ``load`` fails, or an image is not what its annotations say.
    """

    def __init__(self, load: Callable[[dict], dict], key: str, sizes: Sizes | None = None) -> None:
        self.load, self.key, self.sizes = load, key, sizes or {}

    def __call__(self, results: dict) -> dict | None:
        if self.key not in results:
            # The set has its images in memory.
            return self.load(results)
        path, size = results[self.key], annotated_size(results, self.sizes)
        try:
            loaded = self.load(results)
            if self.key == "img_path" and "://" not in path:
                if getattr(self.load, "color_type", "color") != "unchanged":
                    check_depth(path)
                check_size(path, loaded["img"].shape, size)
            return loaded
        except UnreadableFile:
            raise
        except Exception as error:
            # Decoders and storage backends raise any exception.
            raise UnreadableFile.after(error, results[self.key], KINDS[self.key][0]) from error

    def __repr__(self) -> str:
        return repr(self.load)


def name_unreadable(steps: list[Callable], sizes: Sizes | None = None) -> None:
    """Wrap the steps of a pipeline that read a file in :class:`ReadFile`."""
    for place, key, _ in list(reading_steps(steps)):
        steps[place] = ReadFile(steps[place], key, sizes)


def flags_of_files() -> torch.Tensor:
    """A flag for each hash of a file name, shared with worker processes."""
    return torch.zeros(2**20, dtype=torch.bool).share_memory_()


class Unread:
    """Reports each unreadable file of a data set once.

    Args:
        named: which files have been reported, see :func:`flags_of_files`.
        run: what continues without them, such as "training".
        limited: whether more than ``MAX_IN_A_ROW`` unreadable files in a row raise an error.
    """

    def __init__(self, named: torch.Tensor, run: str, limited: bool) -> None:
        self.named, self.run, self.limited = named, run, limited
        self.in_a_row = 0

    def note(self, path: str, key: str, error: UnreadableFile) -> None:
        """Report a file.

        Raises:
            UnreadableFile: if there are too many in a row.
        """
        self.in_a_row += 1
        if self.limited and self.in_a_row > MAX_IN_A_ROW:
            raise UnreadableFile(
                f"{self.in_a_row} {KINDS[key][1]} in a row can't be read; {error}"
            ) from error
        place = zlib.crc32(os.fsencode(path)) % len(self.named)
        if not self.named[place]:
            self.named[place] = True
            # Processes other than the first print only errors.
            level = logging.WARNING if get_rank() == 0 else logging.ERROR
            print_log(
                f"{one_line(str(error))}; {self.run} continues without it", logger="current", level=level
            )


class SkipUnreadable(ReadFile):
    """Wraps a transform so that it returns None for an unreadable file and reports it.

    A data set replaces None by another sample.

    Args:
        load: the transform.
        key: the sample's key with the file name.
        unread: shared by the steps that read the same files.
        last: whether reading is complete after ``load``.
        sizes: as of :class:`ReadFile`.

    Raises:
        UnreadableFile: when called, if too many files in a row can't be read.
    """

    def __init__(
        self,
        load: Callable[[dict], dict],
        key: str,
        unread: Unread,
        last: bool,
        sizes: Sizes | None = None,
    ) -> None:
        super().__init__(load, key, sizes)
        self.unread, self.last = unread, last

    def __call__(self, results: dict) -> dict | None:
        path = results.get(self.key, "")
        try:
            loaded = super().__call__(results)
        except UnreadableFile as error:
            self.unread.note(path, self.key, error)
            return None
        if self.last:
            self.unread.in_a_row = 0
        return loaded
