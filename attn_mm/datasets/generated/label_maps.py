"""A generated data set of semantic segmentation: the images of :mod:`attn_mm.datasets.generated.shapes`.

A label map is a PNG with one class number for each pixel, 0 for the background.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from attn_mm.datasets.generated import shapes
from attn_mm.datasets.generated.cache import GeneratedSet

CLASSES = ("background", *shapes.CLASSES)
# RGB, distinguishable over any image.
PALETTE = [
    [90, 90, 90],
    [230, 25, 75],
    [60, 180, 75],
    [255, 225, 25],
    [0, 130, 200],
    [240, 50, 230],
    [70, 240, 240],
]

# Part of the cache key: increase it with every change that alters a file's content.
FORMAT_VERSION = 2


def make_label_maps(
    root: str | os.PathLike | None = None,
    num_train: int = 800,
    num_val: int = 100,
    image_size: int = 96,
    seed: int = 0,
) -> Path:
    """Generate the data set, or reuse it from the cache, and return its folder.

    The arguments are those of :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    Images are in ``{train,val}2017/``, label maps of the same names in ``label_maps/{train,val}2017/``, and
    the names in ``annotations/{train,val}2017.txt``.
    """
    return LabelMapSet("label_maps", FORMAT_VERSION).make(root, num_train, num_val, image_size, seed)


class LabelMapSet(GeneratedSet):
    """Images with a label map each."""

    splits = ("train2017", "val2017")
    min_size = 64

    def draw_sample(self, random: Callable, size: int, index: int) -> tuple[np.ndarray, None]:
        picture, objects = shapes.draw_scene(random, size)
        labels = np.zeros((size, size), np.uint8)
        for label, _, visible in objects:
            labels[visible] = label + 1
        return np.dstack([picture, labels]), None

    def annotation_file(self, folder: Path, split: str) -> Path:
        return folder / "annotations" / f"{split}.txt"

    def write_sample(self, folder: Path, number: int, sample: np.ndarray) -> str:
        picture, labels = sample[..., :3], sample[..., 3]
        name = f"{number:012d}"
        maps = folder.parent / "label_maps" / folder.name
        maps.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        (folder / f"{name}.jpg").write_bytes(cv2.imencode(".jpg", picture, quality)[1].tobytes())
        (maps / f"{name}.png").write_bytes(cv2.imencode(".png", labels)[1].tobytes())
        return name

    def annotations(self, entries: list[tuple[str, None]], size: int) -> str:
        return "".join(f"{name}\n" for name, _ in entries)
