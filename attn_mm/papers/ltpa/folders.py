"""Read the folders of images and masks that an analysis uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from attn_mm.datasets.folders import labelled_files
from attn_mm.datasets.media import IMAGE_SUFFIXES, open_input, read_image
from attn_mm.errors import UserError

# Of the Object Discovery set, in the folder of a class.
MASK_FOLDER = "GroundTruth"


def class_folders(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Image files, their labels ``(n,)`` and the classes' names, of a folder that holds one for each class.

    Raises:
        UserError: there are fewer than two classes, or no image.
    """
    classes = _subfolders(folder)
    if len(classes) < 2:
        raise UserError(f"{folder} should hold a folder of images for each of at least two classes")
    infos = labelled_files(folder, {name: label for label, name in enumerate(classes)})
    return [Path(info["img_path"]) for info in infos], np.array([i["gt_label"] for i in infos]), classes


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@dataclass(frozen=True)
class MaskedImage:
    """An image file, the file of its object's mask, and the class that it counts for."""

    image: Path
    mask: Path
    group: str


def object_discovery(folder: Path) -> list[MaskedImage]:
    """The images of the Object Discovery layout: ``CLASS/NAME.jpg`` and ``CLASS/GroundTruth/NAME.png``.

    Raises:
        UserError: there is no such pair.
    """
    classes = [name for name in _subfolders(folder) if (folder / name / MASK_FOLDER).is_dir()]
    if not classes:
        raise UserError(
            f"{folder} holds no folder of images with the folder {MASK_FOLDER} of their masks in it"
        )
    return [pair for name in classes for pair in pairs(folder / name, folder / name / MASK_FOLDER)]


def pairs(images: Path, masks: Path) -> list[MaskedImage]:
    """The images of a folder that have a mask of the same name, but for the suffix, in another.

    Raises:
        UserError: none has.
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
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool: what is brighter than half of its brightest pixel.

    Raises:
        UserError: it can't be read, or its height and width are not ``size``, the image's.
    """
    mask = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY)
    if mask.shape != size:
        raise UserError(
            f"{path} is of {mask.shape[1]}x{mask.shape[0]} pixels, its image of {size[1]}x{size[0]}"
        )
    return mask > mask.max() / 2


def image_files(paths: Sequence[Path], flag: str) -> list[Path]:
    """The images that a flag names, folders opened.

    Raises:
        UserError: one is neither an image nor a folder of images.
    """
    found = []
    for path in paths:
        source = open_input(path)
        if not isinstance(source, list):
            raise UserError(f"{flag} {path} is a video: images are needed")
        found += source
    return found
