"""Data sets with one folder per class."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from attn_mm.datasets.media import IMAGE_SUFFIXES
from attn_mm.errors import UserError
from attn_mm.utils.files import natural


def check_folders(folder: str | os.PathLike, classes: Sequence[str]) -> None:
    """Check that ``folder`` contains one folder per class, and no other.

    Raises:
        UserError: if ``folder`` or a class's folder is missing, or a folder matches no class.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is missing: it must contain a folder of images for each class")
    found = {path.name for path in Path(folder).iterdir() if path.is_dir()}
    for name in sorted(set(classes) - found):
        raise UserError(f"{folder} has no folder {name!r}: each of the {len(classes)} classes needs one")
    names = textwrap.shorten(", ".join(classes), 80, placeholder=" ...")
    for name in sorted(found - set(classes)):
        raise UserError(f"{folder / Path(name)} matches no class: the classes are {names}")


def labelled_files(folder: str | os.PathLike, labels: dict[str, int]) -> list[dict]:
    """List the images in the class folders of ``folder``, sorted by label and name.

    Args:
        folder: contains the class folders.
        labels: the label of each class folder.

    Returns:
        ``{"img_path", "gt_label"}`` of each image.

    Raises:
        UserError: if there is no image.
    """
    infos = [
        {"img_path": str(path), "gt_label": label}
        for name, label in sorted(labels.items(), key=lambda item: item[1])
        for path in sorted(Path(folder, name).iterdir(), key=natural)
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not infos:
        raise UserError(f"the folders in {folder} contain no image ({' '.join(IMAGE_SUFFIXES)})")
    return infos
