"""Boxes from class activation maps, and how well they localise.

Selvaraju et al., Grad-CAM, ICCV 2017 (https://arxiv.org/abs/1610.02391), section 4.1: the map is cut at
15 % of its maximum, and the box is drawn around the largest of the connected segments. ImageNet's
localisation counts an image as right if one of the k best classes is right and its box overlaps one of the
class's boxes by half (Russakovsky et al., https://arxiv.org/abs/1409.0575). CorLoc is of Deselaers et al.,
Weakly Supervised Localization and Learning with Generic Knowledge, IJCV 2012: of each class the share of
its images in which one of its objects is localised, averaged over the classes.

Boxes are x1, y1, x2, y2 in pixels; x2 and y2 are where the last pixel ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from attn_mm.papers.classifiers import TOP_K

THRESHOLD = 0.15
MIN_IOU = 0.5

Box = Sequence[float]


def map_box(heat: np.ndarray, threshold: float = THRESHOLD) -> list[int] | None:
    """The box around the largest segment of what reaches ``threshold`` of a map's maximum.

    Pixels that touch at a corner are connected.

    Args:
        heat: (H, W), not negative.

    Returns:
        the box, or None where the map is 0.
    """
    highest = float(np.max(heat))
    if highest <= 0:
        return None
    hot = (np.asarray(heat) >= threshold * highest).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    # The first segment is what does not reach it.
    x, y, width, height, _ = stats[1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])].tolist()
    return [x, y, x + width, y + height]


def iou(box: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 where one is empty."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    union = _area(box) + _area(other) - common
    return common / union if common else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def localises(box: Box | None, objects: Sequence[Box]) -> bool:
    """Whether a box overlaps one of a class's objects enough."""
    return box is not None and any(iou(box, each) >= MIN_IOU for each in objects)


@dataclass
class Localised:
    """What a network says of an image, and what is in it.

    Attributes:
        objects: the boxes of each class in the image.
        ranked: the classes that the network finds likeliest, the best first.
        boxes: of each class in ``ranked`` and ``objects``, the box of its map.
    """

    objects: Mapping[int, Sequence[Box]]
    ranked: Sequence[int]
    boxes: Mapping[int, Box | None]


def localisation_metrics(images: Sequence[Localised]) -> dict[str, float]:
    """Accuracies, 0 to 1.

    Returns:
        ``top1`` and ``top5``, whether one of the k best classes is in the image; ``top1_loc`` and
        ``top5_loc``, whether that class's box is right as well; ``known_loc``, over all images and their
        classes, whether the box of the class is right, whatever is predicted; ``corloc``, the same averaged
        over the classes.
    """
    found: dict[str, float] = {}
    for k in TOP_K:
        right = [[label for label in image.ranked[:k] if label in image.objects] for image in images]
        found[f"top{k}"] = float(np.mean([bool(labels) for labels in right]))
        hits = [
            any(localises(image.boxes[label], image.objects[label]) for label in labels)
            for image, labels in zip(images, right)
        ]
        found[f"top{k}_loc"] = float(np.mean(hits))
    known: dict[int, list[bool]] = defaultdict(list)
    for image in images:
        for label, objects in image.objects.items():
            known[label].append(localises(image.boxes[label], objects))
    found["known_loc"] = float(np.mean([hit for hits in known.values() for hit in hits]))
    found["corloc"] = float(np.mean([np.mean(hits) for hits in known.values()]))
    return found
