"""A generated classification data set.

Each image shows one large flat-coloured shape, rotated at random, on a textured background. The class
doesn't depend on colour, size or position.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from attn_mm.datasets.generated.backgrounds import background, contrasting_colour, with_noise
from attn_mm.datasets.generated.cache import LabelledSet
from attn_mm.datasets.generated.polygons import blend, box, coverage, mask_of
from attn_mm.datasets.generated.shapes import CLASSES, place

# Part of the cache key: increase it with every change that alters a file's content.
FORMAT_VERSION = 2

# Diameter of a shape's circumscribed circle, as a fraction of the image's side: 16 to 29 px of 32.
SIZE_RANGE = (0.5, 0.9)


def make_pictures(
    root: str | os.PathLike | None = None,
    num_train: int = 2000,
    num_val: int = 200,
    image_size: int = 32,
    seed: int = 0,
) -> Path:
    """Generate the data set, or reuse it from the cache, and return its folder.

    The arguments are those of :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    Annotations are in ``annotations/labels_{train,val}2017.json``, in the format of mmengine's
    ``BaseDataset``, with the shape's ``bbox`` in addition: x1, y1, x2, y2 in pixels.
    """
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    pictures = LabelledSet("pictures", FORMAT_VERSION, "labels", categories, draw_scene)
    return pictures.make(root, num_train, num_val, image_size, seed)


def draw_scene(random: Callable, size: int) -> tuple[np.ndarray, dict]:
    """Draw one image.

    Args:
        random: source of uniform numbers in [0, 1): ``random()`` returns a float, ``random(shape)`` an array.
        size: side of the image in pixels.

    Returns:
        The image, uint8 (size, size, 3) BGR, and ``{"gt_label", "bbox"}``: its class index and the box of
        its shape.
    """
    return draw_masked_scene(random, size)[:2]


def draw_masked_scene(random: Callable, size: int) -> tuple[np.ndarray, dict, np.ndarray]:
    """Like :func:`draw_scene`, and also return the mask of the shape, bool (size, size)."""
    canvas, colours = background(random, size)
    label = int(random() * len(CLASSES))
    diameter = size * (SIZE_RANGE[0] + (SIZE_RANGE[1] - SIZE_RANGE[0]) * random())
    patch = coverage(place(random, CLASSES[label], diameter, size), size)
    blend(canvas, patch, contrasting_colour(random, colours))
    mask = mask_of(patch, size)
    x, y, width, height = box(mask)
    return with_noise(random, canvas), {"gt_label": label, "bbox": [x, y, x + width, y + height]}, mask
