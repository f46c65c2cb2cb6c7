"""Check that the boxes of COCO annotations make sense in their images; a fault is reported in one line.

A few odd boxes are common in real sets and are only counted in a warning. Many of one kind mean that the file
has another format than ``x, y, width, height``, or was written twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from msgspec import UNSET

from attn_mm.datasets.coco_files import Annotation, Person
from attn_mm.errors import UserError

# The share of a set's boxes that is no longer a few.
_MANY = 0.2
_HALF = 0.5
_MOST = 0.95
# No object reaches as far as ten times its image's side, or has twice its image's or its box's area.
TIMES = 10
# Boxes are drawn around masks; a box of an object that is partly hidden is larger than its mask.
_OVERLAP = 0.2
_AREAS = 2


def check_boxes(path: str, annotations: Sequence[Annotation | Person], sizes: Mapping) -> None:
    """Check the boxes and areas of a file.

    Args:
        path: the file, for messages.
        annotations: all of its annotations; those without a box are ignored.
        sizes: the width and height of each image, by its id.

    Raises:
        UserError: a box or an area is far too large, or many boxes are not x, y, width, height, are outside
            their images or there twice.
    """
    boxed = [
        (place, item)
        for place, item in enumerate(annotations)
        if item.bbox is not UNSET and item.image_id in sizes
    ]
    if not boxed:
        return
    places = np.array([place for place, _ in boxed])
    boxes = np.array([item.bbox for _, item in boxed], dtype=float)
    images = np.array([sizes[item.image_id] for _, item in boxed], dtype=float)
    _check_far(path, places, boxes, images)
    _check_format(path, boxes, images)
    _check_areas(path, boxed, boxes, images)
    _check_outside(path, places, boxes, images)
    _check_repeated(path, boxed)


def _check_far(path: str, places: np.ndarray, boxes: np.ndarray, images: np.ndarray) -> None:
    far = np.abs(boxes) > TIMES * np.concatenate([images, images], axis=1)
    if far.any():
        row = int(np.flatnonzero(far.any(axis=1))[0])
        width, height = images[row]
        raise UserError(
            f"{path}: annotations[{places[row]}].bbox is {_list(boxes[row])}, more than {TIMES} times its "
            f"image of {width:g} x {height:g} pixels: correct or remove it"
        )


def _readings(boxes: np.ndarray) -> dict[str, np.ndarray]:
    """What the four numbers of each box may mean: its sides' x1, y1, x2, y2."""
    x, y, w, h = boxes.T
    return {
        "x1, y1, x2, y2": np.stack([x, y, w, h]),
        "centre x, centre y, width, height": np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2]),
        "y, x, height, width": np.stack([y, x, y + h, x + w]),
        "y, x, width, height": np.stack([y, x, y + w, x + h]),
        "y1, x1, y2, x2": np.stack([y, x, h, w]),
    }


def _inside(corners: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Whether boxes of x1, y1, x2, y2 are in their images, but for a pixel."""
    x1, y1, x2, y2 = corners
    width, height = images.T
    return (x1 >= -1) & (y1 >= -1) & (x2 > x1) & (y2 > y1) & (x2 <= width + 1) & (y2 <= height + 1)


def _check_format(path: str, boxes: np.ndarray, images: np.ndarray) -> None:
    fractions = ((boxes >= 0) & (boxes <= 1)).all(axis=1)
    if fractions.mean() >= _MOST and boxes.any() and (images > 2).all():
        raise UserError(
            f"{path}: its boxes seem to be fractions of their images: write x, y, width, height in pixels"
        )
    x, y, w, h = boxes.T
    width, height = images.T
    beyond = (x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1)
    if beyond.mean() < _MANY:
        return
    shares = {name: _inside(corners, images).mean() for name, corners in _readings(boxes).items()}
    best = max(shares, key=lambda name: shares[name])
    number = f"{beyond.sum()} of {len(boxes)} reach beyond their images"
    if shares[best] >= _MOST:
        raise UserError(f"{path}: its boxes seem to be {best}: {number}. Write x, y, width, height")
    _warn(f"{path}: are its boxes x, y, width, height? {number}")


def _check_areas(path: str, boxed: Sequence, boxes: np.ndarray, images: np.ndarray) -> None:
    areas = np.array([item.area if item.area is not UNSET else 0 for _, item in boxed], dtype=float)
    too_large = areas > _AREAS * images.prod(axis=1)
    if too_large.any():
        row = int(np.flatnonzero(too_large)[0])
        width, height = images[row]
        raise UserError(
            f"{path}: annotations[{boxed[row][0]}].area is {areas[row]:g}, but its whole image of {width:g} "
            f"x {height:g} has {width * height:g} pixels: correct it"
        )
    used = ~_outside(boxes, images)
    larger = used & (areas > _AREAS * (np.abs(boxes[:, 2:]) + 1).prod(axis=1))
    if larger.sum() >= max(1, _MANY * used.sum()):
        row = int(np.flatnonzero(larger)[0])
        raise UserError(
            f"{path}: {larger.sum()} of {len(boxed)} areas are more than {_AREAS} times their boxes', such "
            f"as annotations[{boxed[row][0]}].area, {areas[row]:g}: write the objects' areas in pixels"
        )


def _outside(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Which boxes have nothing in their images."""
    x, y, w, h = boxes.T
    width, height = images.T
    return (np.minimum(x + w, width) <= np.maximum(x, 0)) | (np.minimum(y + h, height) <= np.maximum(y, 0))


def _check_outside(path: str, places: np.ndarray, boxes: np.ndarray, images: np.ndarray) -> None:
    outside = _outside(boxes, images)
    if not outside.any():
        return
    first = f"annotations[{places[np.flatnonzero(outside)[0]]}]"
    said = f"{path}: {outside.sum()} of {len(boxes)} boxes are empty or outside their images, such as {first}"
    # If all are, the set has nothing to use, which is told in other words.
    if _HALF <= outside.mean() < 1:
        raise UserError(f"{said}: correct or remove them")
    _warn(f"{said}; nothing is learned from them, but an evaluation expects them")


def _check_repeated(path: str, boxed: Sequence) -> None:
    seen: dict[tuple, int] = {}
    repeated = []
    for place, item in boxed:
        first = seen.setdefault((item.image_id, item.category_id, item.bbox), place)
        if first != place:
            repeated.append((first, place))
    if not repeated:
        return
    first, place = repeated[0]
    said = (
        f"{path}: {len(repeated)} of {len(boxed)} annotations repeat another one's image, category and box, "
        f"such as annotations[{place}] that of annotations[{first}]"
    )
    if len(repeated) >= _MANY * len(boxed):
        raise UserError(f"{said}: remove them")
    _warn(said)


def check_masks_in_boxes(path: str, annotations: Sequence[Annotation], around: Mapping) -> None:
    """Check that masks are where their boxes are.

    Args:
        path: the file, for messages.
        annotations: all of its annotations.
        around: x1, y1, x2, y2 of the mask of some of them by their place; None for a mask of nothing.

    Raises:
        UserError: many aren't.
    """
    elsewhere = [
        place
        for place, corners in around.items()
        if corners is None or _overlap(annotations[place].bbox, corners) < _OVERLAP
    ]
    if not elsewhere:
        return
    said = (
        f"{path}: {len(elsewhere)} of {len(around)} masks are empty or not where their boxes are, such as "
        f"annotations[{elsewhere[0]}].segmentation"
    )
    if len(elsewhere) >= _MANY * len(around):
        raise UserError(f"{said}: write x, y in pixels of the image, or remove them")
    _warn(said)


def _overlap(box: Any, corners: tuple[float, float, float, float]) -> float:
    """Intersection over union of x, y, width, height and x1, y1, x2, y2."""
    x, y, w, h = box
    x1, y1, x2, y2 = corners
    shared = max(0.0, min(x + w, x2) - max(x, x1)) * max(0.0, min(y + h, y2) - max(y, y1))
    return shared / max(w * h + (x2 - x1) * (y2 - y1) - shared, 1e-9)


def _list(numbers: np.ndarray) -> str:
    return f"[{', '.join(f'{number:g}' for number in numbers)}]"


def _warn(message: str) -> None:
    print_log(message, logger="current", level=logging.WARNING)
