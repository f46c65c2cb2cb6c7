"""Read the folders of images and masks that an analysis uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from attn_mm.datasets.media import IMAGE_SUFFIXES, open_input, read_image
from attn_mm.errors import UserError
from attn_mm.utils.files import natural

# Of the Object Discovery set, in the folder of a class.
MASK_FOLDER = "GroundTruth"


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@dataclass(frozen=True)
class MaskedImage:
    """An image file, the file of its object's mask, and its class."""

    image: Path
    mask: Path
    group: str


def object_discovery(folder: Path) -> list[MaskedImage]:
    """Find the images of the Object Discovery layout: ``CLASS/NAME.jpg``, ``CLASS/GroundTruth/NAME.png``.

    Raises:
        UserError: there is no such pair of files.
    """
    classes = [name for name in _subfolders(folder) if (folder / name / MASK_FOLDER).is_dir()]
    if not classes:
        raise UserError(f"{folder} contains no folder of images with a folder {MASK_FOLDER} of masks inside")
    return [pair for name in classes for pair in pairs(folder / name, folder / name / MASK_FOLDER)]


def pairs(images: Path, masks: Path) -> list[MaskedImage]:
    """Match the images of a folder to the masks of another by their names without suffix.

    Raises:
        UserError: no image has a mask.
    """
    found = {path.stem: path for path in _images(masks)}
    paired = [
        MaskedImage(path, found[path.stem], images.name) for path in _images(images) if path.stem in found
    ]
    if not paired:
        raise UserError(f"no image in {images} has a mask of the same name in {masks}")
    return paired


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    found = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(found, key=natural)


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a mask as bool: True for pixels brighter than half of the brightest pixel.

    Raises:
        UserError: the mask can't be read, or its height and width differ from ``size``, the image's.
    """
    mask = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY)
    if mask.shape != size:
        raise UserError(
            f"mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels, its image {size[1]}x{size[0]}"
        )
    return mask > mask.max() / 2


def image_files(paths: Sequence[Path], flag: str) -> list[Path]:
    """List the images of a flag's files and folders.

    Raises:
        UserError: a path is neither an image nor a folder of images.
    """
    found = []
    for path in paths:
        source = open_input(path)
        if not isinstance(source, list):
            raise UserError(f"{flag} {path} is a video: give images")
        found += source
    return found
