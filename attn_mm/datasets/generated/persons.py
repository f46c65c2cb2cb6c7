"""A generated keypoint data set in COCO's layout.

Each image shows one or two jointed figures on a textured background, from the
front, the side or the back. Figures may hide each other, be partly hidden by
shapes, or be partly outside the image. Each has COCO's 17 keypoints with
visibility, the box of the whole figure, and the run-length mask of its visible
part. Left and right are the person's own; the face or the back of the head shows
which is which.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attn_mm.datasets.generated.backgrounds import background, contrasting_colour, with_noise
from attn_mm.datasets.generated.cache import CocoSet
from attn_mm.datasets.generated.jointed_figure import KEYPOINTS, between, draw_figure
from attn_mm.datasets.generated.polygons import Patch, blend, box, coverage, mask_of, run_lengths
from attn_mm.datasets.generated.shapes import CLASSES, place

# Part of the cache key: increase it with every change that alters a file's content.
FORMAT_VERSION = 1

MAX_PERSONS = 2
MAX_THINGS = 2
# A figure's height and a thing's diameter, as fractions of the image's side.
HEIGHT_RANGE = (0.5, 0.9)
THING_RANGE = (0.1, 0.25)
# How far a figure may extend outside the image, as a fraction of its size.
MAX_OUTSIDE = 0.15
MIN_VISIBLE = 0.7
MAX_TRIES = 10

# COCO's skeleton; keypoints count from 1.
SKELETON = (
    *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9)),
    *((8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
)


@dataclass
class Person:
    """A figure in a picture.

    Attributes:
        keypoints: (17, 2), pixels from the image's top left corner.
        visibility: (17,): 2 if the keypoint is visible, 1 if something hides it, 0 outside the image and,
            as in COCO's annotations, on a face that is turned away.
        whole: bool (size, size), the mask of the whole figure.
        visible: bool (size, size), the mask of its visible part.
    """

    keypoints: np.ndarray
    visibility: np.ndarray
    whole: np.ndarray
    visible: np.ndarray

    def hide(self, mask: np.ndarray) -> None:
        """Put something with this mask in front of the figure."""
        self.visible = self.visible & ~mask
        inside = np.flatnonzero(self.visibility)
        columns, rows = np.floor(self.keypoints[inside]).astype(int).T
        self.visibility[inside[mask[rows, columns]]] = 1


def make_persons(
    root: str | os.PathLike | None = None,
    num_train: int = 2000,
    num_val: int = 100,
    image_size: int = 160,
    seed: int = 0,
) -> Path:
    """Generate the data set, or reuse it from the cache, and return its folder.

    The arguments are those of :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    Annotations are in ``annotations/person_keypoints_{train,val}2017.json``.
    """
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(KEYPOINTS),
        "skeleton": [list(limb) for limb in SKELETON],
    }
    persons = CocoSet("persons", FORMAT_VERSION, "person_keypoints", [category], _annotated_scene)
    return persons.make(root, num_train, num_val, image_size, seed)


def _annotated_scene(random: Callable, size: int) -> tuple[np.ndarray, list[dict]]:
    picture, persons = draw_scene(random, size)
    return picture, [_annotation(person, size) for person in persons]


def _annotation(person: Person, size: int) -> dict:
    # COCO's coordinates count from the middle of a pixel.
    places = np.clip(np.round(person.keypoints - 0.5, 1), 0, size - 1)
    keypoints = [
        value
        for (x, y), seen in zip(places.tolist(), person.visibility.tolist())
        for value in ((x, y, seen) if seen else (0, 0, 0))
    ]
    return {
        "category_id": 1,
        "keypoints": keypoints,
        "num_keypoints": int((person.visibility > 0).sum()),
        "bbox": box(person.whole),
        "area": int(person.visible.sum()),
        "segmentation": {"size": [size, size], "counts": run_lengths(person.visible)},
        "iscrowd": 0,
    }


def draw_scene(random: Callable, size: int) -> tuple[np.ndarray, list[Person]]:
    """Draw one image.

    Args:
        random: source of uniform numbers in [0, 1): ``random()`` returns a float, ``random(shape)`` an array.
        size: side of the image in pixels.

    Returns:
        The image, uint8 (size, size, 3) BGR, and its persons from back to front.
    """
    canvas, colours = background(random, size)
    kinds = ["person"] * (1 + int(random() * MAX_PERSONS)) + ["thing"] * int(random() * (MAX_THINGS + 1))
    persons: list[Person] = []
    for kind in sorted(kinds, key=lambda _: random()):
        for _ in range(MAX_TRIES):
            if kind == "person":
                strokes, person = _placed_figure(random, size)
                mask = person.whole
            else:
                strokes = [_placed_thing(random, size, colours)]
                mask = mask_of(strokes[0][0], size)
            if all((p.visible & ~mask).sum() >= MIN_VISIBLE * p.whole.sum() for p in persons):
                break
        else:
            continue
        for other in persons:
            other.hide(mask)
        for patch, colour in strokes:
            blend(canvas, patch, colour)
        if kind == "person":
            persons.append(person)
        else:
            colours.append(strokes[0][1])
    return with_noise(random, canvas), persons


def _placed_figure(random: Callable, size: int) -> tuple[list[tuple[Patch, np.ndarray]], Person]:
    """A person at a random position: its strokes in the order of painting, and its annotation."""
    figure = draw_figure(random)
    height = size * between(random, *HEIGHT_RANGE)
    layers = [[(height * outline, colour) for outline, colour in part.layers()] for part in figure.parts]
    extent = np.concatenate([outline for (outline, _), *_ in layers])
    low, high = extent.min(axis=0), extent.max(axis=0)
    slack = MAX_OUTSIDE * (high - low)
    corner = -low - slack + (size - (high - low) + 2 * slack) * np.array([random(), random()])
    strokes = [[(coverage([outline + corner], size), c) for outline, c in layer] for layer in layers]
    masks = np.array([mask_of(patch, size) for (patch, _), *_ in strokes])
    whole = np.logical_or.reduce(masks)

    keypoints = corner + height * np.array([figure.joints[name][:2] for name in KEYPOINTS])
    visibility = np.zeros(len(KEYPOINTS), int)
    for index, (column, row) in enumerate(np.floor(keypoints).astype(int)):
        name = KEYPOINTS[index]
        if 0 <= column < size and 0 <= row < size and not figure.turned_away(name):
            there = np.flatnonzero(masks[:, row, column])
            visibility[index] = 2 if len(there) and figure.shows(name, figure.parts[there[-1]].name) else 1
    return [stroke for layer in strokes for stroke in layer], Person(keypoints, visibility, whole, whole)


def _placed_thing(random: Callable, size: int, colours: list[np.ndarray]) -> tuple[Patch, np.ndarray]:
    """A shape at a random position, and its colour."""
    name = CLASSES[int(random() * len(CLASSES))]
    diameter = size * between(random, *THING_RANGE)
    return coverage(place(random, name, diameter, size), size), contrasting_colour(random, colours)
