"""Read the image sets of table 3: folders of classes, Caltech-101 and -256, Action-40.

Jetley et al., Learn To Pay Attention, ICLR 2018, tables 3 and 4. The sets: Fei-Fei, Fergus & Perona, One-Shot
Learning of Object Categories, 2006; Griffin, Holub & Perona, Caltech-256, 2007; Yao et al., Human Action
Recognition by Learning Bases of Action Attributes and Parts, ICCV 2011.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attn_mm.datasets.checks.text_lines import read_lines
from attn_mm.datasets.folders import labelled_files
from attn_mm.datasets.media import IMAGE_SUFFIXES
from attn_mm.errors import UserError

BACKGROUNDS = ("BACKGROUND_Google", "257.clutter")
"""Folders of Caltech-101 and -256 that are no class; the paper counts the images without them."""

_CALTECH_101, _CALTECH_256, _ACTION_40 = "Caltech-101", "Caltech-256", "Action-40"
PAPER_COUNTS = {_CALTECH_101: 8677, _CALTECH_256: 29780, _ACTION_40: 9532}
"""The number of images in table 4."""

_ARCHIVES = ("101_ObjectCategories", "256_ObjectCategories")
_IMAGES, _LISTS = "JPEGImages", "ImageSplits"
_NUMBERED = re.compile(r"(.+)_\d+")


@dataclass(frozen=True)
class ImageSet:
    """Image files and their classes.

    Attributes:
        paths: the files.
        labels: the class number of each.
        classes: names of the classes.
        kind: the set of the paper that it is by its layout; None for any other.
    """

    paths: list[Path]
    labels: np.ndarray
    classes: list[str]
    kind: str | None = None

    def difference(self) -> str | None:
        """How the number of images differs from the paper's; None if it doesn't, or the set is another."""
        expected = PAPER_COUNTS.get(self.kind or "", len(self.paths))
        if expected == len(self.paths):
            return None
        return f"{len(self.paths)} images of {self.kind}, where the paper has {expected}"


def read_image_set(folder: Path) -> ImageSet:
    """Read a folder of class folders, of Caltech-101 or -256, or of Action-40.

    Caltech's background folder is no class. Action-40 is one flat folder ``JPEGImages`` whose lists in
    ``ImageSplits`` or file names, such as ``applauding_001.jpg``, tell the classes.

    Raises:
        UserError: there are fewer than two classes or no image, or a list can't be read or names a missing
            image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder")
    folder = next((folder / name for name in _ARCHIVES if (folder / name).is_dir()), folder)
    if (folder / _IMAGES).is_dir():
        listed = _read_lists(folder) if (folder / _LISTS).is_dir() else _by_name(folder / _IMAGES)
        return _flat(folder, listed)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    classes = [name for name in names if name not in BACKGROUNDS]
    if not names:
        return _flat(folder, _by_name(folder))
    if len(classes) < 2:
        raise UserError(f"{folder} must contain a folder of images for each of at least two classes")
    infos = labelled_files(folder, {name: label for label, name in enumerate(classes)})
    labels = np.array([info["gt_label"] for info in infos])
    return ImageSet([Path(info["img_path"]) for info in infos], labels, classes, _caltech(names))


def _caltech(names: list[str]) -> str | None:
    """Which of Caltech's sets class folders are, with or without the background."""
    if {"Faces_easy", "accordion"} <= set(names):
        return _CALTECH_101
    return _CALTECH_256 if {"001.ak47", "256.toad"} & set(names) else None


def _flat(folder: Path, listed: dict[Path, str]) -> ImageSet:
    """A set whose images are all in one folder."""
    classes = sorted(set(listed.values()))
    if len(classes) < 2:
        raise UserError(
            f"{folder} must contain images of at least two classes, in a folder for each class, or as "
            "Action-40 in one folder with names such as applauding_001.jpg"
        )
    paths = sorted(listed, key=lambda path: (listed[path], path.name))
    labels = np.array([classes.index(listed[path]) for path in paths])
    return ImageSet(paths, labels, classes, _ACTION_40 if "applauding" in classes else None)


def _by_name(folder: Path) -> dict[Path, str]:
    """The class of each image of a folder, the beginning of its name."""
    return {
        path: match[1]
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and (match := _NUMBERED.fullmatch(path.stem))
    }


def _read_lists(folder: Path) -> dict[Path, str]:
    """The class of each image, from the lists ``ACTION_train.txt`` and ``ACTION_test.txt``."""
    found: dict[Path, str] = {}
    for path, action in _lists(folder / _LISTS):
        for name in filter(None, map(str.strip, read_lines(str(path)))):
            image = folder / _IMAGES / name
            if found.setdefault(image, action) != action:
                raise UserError(f"{path} lists {name}, which is of the class {found[image]} already")
            if not image.is_file():
                raise UserError(f"{path} lists {name}, which is not in {folder / _IMAGES}")
    return found


def _lists(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.glob("*.txt")):
        action, _, split = path.stem.rpartition("_")
        # train.txt and test.txt list the images of all actions again.
        if action and split in ("train", "test"):
            yield path, action
