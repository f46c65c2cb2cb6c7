"""A generated detection data set in COCO's layout.

Each image shows one to three flat-coloured shapes on a textured background. Each
class has its own hue, so that a network learns the set from scratch in a few
hundred steps; backgrounds have any colour. Shapes are turned a little and may
cover each other, at most 15 % of a shape. Boxes cover the whole shape; masks cover
its visible part, as run-length codes, so both detectors and instance segmenters
can use the set.
"""

from __future__ import annotations

import colorsys
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from attn_mm.datasets.generated.backgrounds import background, most_different, with_noise
from attn_mm.datasets.generated.cache import CocoSet
from attn_mm.datasets.generated.polygons import arc, blend, box, coverage, mask_of, run_lengths

CLASSES = ("circle", "ring", "square", "triangle", "star", "cross")

# Part of the cache key: increase it with every change that alters a file's content.
FORMAT_VERSION = 2

MAX_OBJECTS = 3
# Diameter of a shape's circumscribed circle, as a fraction of the image's side: 18 to 38 px of 64.
SIZE_RANGE = (0.28, 0.6)
# Small, so that a short training needn't learn rotations first.
MAX_TURN = math.pi / 24
MIN_VISIBLE = 0.85
MAX_TRIES = 10
# Of a class's hue, as a fraction of the circle, on which neighbouring classes are a sixth apart.
HUE_SPREAD = 0.06


def make_shapes(
    root: str | os.PathLike | None = None,
    num_train: int = 800,
    num_val: int = 100,
    image_size: int = 96,
    seed: int = 0,
) -> Path:
    """Generate the data set, or reuse it from the cache, and return its folder.

    The arguments are those of :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    Annotations are in ``annotations/instances_{train,val}2017.json``.
    """
    categories = [{"id": i + 1, "name": n, "supercategory": "shape"} for i, n in enumerate(CLASSES)]
    shapes = CocoSet("shapes", FORMAT_VERSION, "instances", categories, _annotated_scene)
    return shapes.make(root, num_train, num_val, image_size, seed)


def _annotated_scene(random: Callable, size: int) -> tuple[np.ndarray, list[dict]]:
    picture, objects = draw_scene(random, size)
    return picture, [
        {
            "category_id": label + 1,
            "bbox": box(shape),
            "area": int(visible.sum()),
            "segmentation": {"size": [size, size], "counts": run_lengths(visible)},
            "iscrowd": 0,
        }
        for label, shape, visible in objects
    ]


def draw_scene(random: Callable, size: int) -> tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
    """Draw one image.

    Args:
        random: source of uniform numbers in [0, 1): ``random()`` returns a float, ``random(shape)`` an array.
        size: side of the image in pixels.

    Returns:
        The image, uint8 (size, size, 3) BGR, and its objects from back to front:
        class index, boolean mask (size, size) of the whole shape, boolean mask of
        its visible part.
    """
    canvas, colours = background(random, size)
    objects: list[tuple[int, np.ndarray, np.ndarray]] = []
    for _ in range(1 + int(random() * MAX_OBJECTS)):
        label = int(random() * len(CLASSES))
        diameter = size * (SIZE_RANGE[0] + (SIZE_RANGE[1] - SIZE_RANGE[0]) * random())
        for _ in range(MAX_TRIES):
            patch = coverage(place(random, CLASSES[label], diameter, size, MAX_TURN), size)
            shape = mask_of(patch, size)
            beneath = [(index, whole, visible & ~shape) for index, whole, visible in objects]
            if all(visible.sum() >= MIN_VISIBLE * whole.sum() for _, whole, visible in beneath):
                break
        else:
            continue
        objects = [*beneath, (label, shape, shape)]
        colours.append(class_colour(random, label, colours))
        blend(canvas, patch, colours[-1])
    return with_noise(random, canvas), objects


def class_colour(random: Callable, label: int, used: list[np.ndarray]) -> np.ndarray:
    """Pick the one of eight random colours of a class's hue that differs most from the used ones, BGR."""
    hue = label / len(CLASSES) + HUE_SPREAD * (random() - 0.5)
    tones = [(0.75 + 0.25 * saturation, 0.65 + 0.35 * value) for saturation, value in random((8, 2))]
    return most_different(255 * np.array([colorsys.hsv_to_rgb(hue % 1, *tone)[::-1] for tone in tones]), used)


def place(
    random: Callable, name: str, diameter: float, size: int, max_turn: float = math.pi / 8
) -> list[np.ndarray]:
    """The outlines, (points, 2) each, of a shape at a random position and rotation inside the image."""
    angle = max_turn * (2 * random() - 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    shape = [diameter / 2 * contour @ turn for contour in contours(name)]
    # The first outline bounds the shape; the second is a hole in it.
    low, high = shape[0].min(axis=0), shape[0].max(axis=0)
    corner = 1 - low + (size - 2 - (high - low)) * np.array([random(), random()])
    return [contour + corner for contour in shape]


def contours(name: str) -> list[np.ndarray]:
    """The outlines, (points, 2) each, of a shape inside the unit circle."""
    if name == "circle":
        return [arc(1.0)]
    if name == "ring":
        return [arc(1.0), arc(0.55)]
    if name == "square":
        return [arc(1.0, points=4) @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2)]
    upright = np.array([[0, -1], [1, 0]])
    if name == "triangle":
        return [arc(1.0, points=3) @ upright]
    if name == "star":
        star = arc(1.0, points=10) @ upright
        star[1::2] *= 0.42
        return [star]
    arm, length = 0.3, math.sqrt(1 - 0.3**2)
    quarter = np.array([[length, -arm], [length, arm], [arm, arm]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    return [np.concatenate([quarter @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])]
