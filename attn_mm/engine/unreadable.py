"""Images that can't be read: named, and in training left out."""

from __future__ import annotations

import logging
import os.path as osp
import zlib
from collections.abc import Callable

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log

from attn_mm.errors import UserError

# More of them in a row are no accident but a wrong folder.
MAX_IN_A_ROW = 50


class UnreadableImage(UserError):
    """An image that can't be read, in one line, also where a worker process has found it."""

    def __init__(self, message: str) -> None:
        # torch raises a worker's error again with the worker's traceback as its message.
        last = message.strip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))


class ReadImage:
    """A transform that loads an image, with one error for all that may go wrong in it.

    Args:
        load: the transform, from ``{"img_path": ...}`` to the same with the image.

    Raises:
        UnreadableImage: when called, where ``load`` fails.
    """

    def __init__(self, load: Callable[[dict], dict]) -> None:
        self.load = load

    def __call__(self, results: dict) -> dict | None:
        try:
            return self.load(results)
        except Exception as error:
            # Decoders and storage backends raise what they like.
            path = results["img_path"]
            raise UnreadableImage(f"{path} can't be read as an image: {_reason(path, error)}") from error

    def __repr__(self) -> str:
        return repr(self.load)


def _reason(path: str, error: Exception) -> str:
    if "://" not in path and not osp.exists(path):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is damaged or of another format"


def flags_of_files() -> torch.Tensor:
    """A flag for each file name's hash, shared with the worker processes that get it."""
    return torch.zeros(2**20, dtype=torch.bool).share_memory_()


class SkipUnreadable(ReadImage):
    """Gives None for an image that can't be read, for which a data set takes another, and names it once.

    Args:
        load: the transform.
        named: :func:`flags_of_files`: which images have been named.

    Raises:
        UnreadableImage: when called, where ``MAX_IN_A_ROW`` images before can't be read either.
    """

    def __init__(self, load: Callable[[dict], dict], named: torch.Tensor) -> None:
        super().__init__(load)
        self.named = named
        self.in_a_row = 0

    def __call__(self, results: dict) -> dict | None:
        try:
            loaded = super().__call__(results)
        except UnreadableImage as error:
            self.in_a_row += 1
            if self.in_a_row > MAX_IN_A_ROW:
                raise UnreadableImage(f"{self.in_a_row} images in a row can't be read; {error}") from error
            self._name(results["img_path"], error)
            return None
        self.in_a_row = 0
        return loaded

    def _name(self, path: str, error: UnreadableImage) -> None:
        place = zlib.crc32(path.encode()) % len(self.named)
        if not self.named[place]:
            self.named[place] = True
            # Processes other than the first print nothing less than an error.
            level = logging.WARNING if get_rank() == 0 else logging.ERROR
            print_log(f"{error}; training goes on without it", logger="current", level=level)
