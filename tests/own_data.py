"""A user's own small data sets, for ``attn-mm new``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
from small import picture


def voc_image(
    folder: Path,
    name: str,
    boxes: Sequence[tuple],
    annotations: Path | None = None,
    suffix: str = ".jpg",
    size: tuple[int, int] = (64, 48),
) -> None:
    """An image of 64 x 48 pixels with an XML file, which is in the same folder by default.

    Args:
        folder: of the image.
        name: of both files.
        boxes: label and xmin, ymin, xmax, ymax of each object.
        annotations: folder of the XML file.
        suffix: of the image.
        size: width and height that the XML file claims.
    """
    annotations = annotations or folder
    for path in (folder, annotations):
        path.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}{suffix}"), picture(seed=len(name)))
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in boxes
    )
    written = "<size><width>{}</width><height>{}</height></size>".format(*size)
    (annotations / f"{name}.xml").write_text(f"<annotation>{written}{objects}</annotation>")


def class_images(root: Path, names: Sequence[str], number: int = 5) -> None:
    """A folder of images for each class."""
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(root / name / f"{index}.png"), picture(seed=index))
