"""Look at every image of a data set: its size, and whether it can be read."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.sampling import spread

# Decoding more takes minutes; of the others the header is read.
_DECODED = 5000

Size = tuple[int, int]


def look_at_images(paths: Sequence[Path]) -> dict[Path, Size | None]:
    """The width and height of images as they load; None for one that can't be read.

    Of more than 5,000 images, 5,000 are decoded; of the others the header is read.
    """
    decoded = set(spread(paths, _DECODED))
    found: dict[Path, Size | None] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress_bar() as progress:
        task = progress.add_task("Looking at images", total=len(paths))
        for path, size in zip(paths, pool.map(lambda p: _decoded(p) if p in decoded else _header(p), paths)):
            found[path] = size
            progress.advance(task)
    return found


def _decoded(path: Path) -> Size | None:
    try:
        height, width = read_image(path).shape[:2]
    except UserError:
        return None
    return width, height


def _header(path: Path) -> Size | None:
    try:
        with Image.open(path) as image:
            size, turned = image.size, _may_be_turned(image)
    except (OSError, ValueError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return None
    # It depends on the format and on OpenCV's version whether it turns an image.
    return _decoded(path) if turned else size


def _may_be_turned(image: Image.Image) -> bool:
    """Whether EXIF data says, or might say, that an image is not upright."""
    if "exif" not in image.info and image.format != "TIFF":
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except (OSError, ValueError, SyntaxError, struct.error):
        return True
