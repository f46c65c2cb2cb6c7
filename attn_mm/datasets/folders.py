"""Data sets whose classes are folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from attn_mm.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".webp")


def check_folders(folder: str | os.PathLike, classes: Sequence[str]) -> None:
    """UserError where the folders in ``folder`` are not one for each of ``classes``, by its name."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is missing: it should hold a folder of images for each class")
    found = {path.name for path in Path(folder).iterdir() if path.is_dir()}
    for name in sorted(set(classes) - found):
        raise UserError(f"{folder} has no folder {name!r}: each of the {len(classes)} classes needs one")
    for name in sorted(found - set(classes)):
        raise UserError(f"{folder / Path(name)} is the folder of no class; those are {', '.join(classes)}")


def labelled_files(folder: str | os.PathLike, labels: dict[str, int]) -> list[dict]:
    """``{"img_path", "gt_label"}`` of the images in the folders of ``folder``, sorted by label and name.

    Args:
        folder: holds the classes' folders.
        labels: each folder's.

    Raises:
        UserError: there is no image.
    """
    infos = [
        {"img_path": str(path), "gt_label": label}
        for name, label in sorted(labels.items(), key=lambda item: item[1])
        for path in sorted(Path(folder, name).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not infos:
        raise UserError(f"the folders in {folder} hold no image ({' '.join(IMAGE_SUFFIXES)})")
    return infos
