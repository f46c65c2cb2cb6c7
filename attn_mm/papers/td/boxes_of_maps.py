"""Draw boxes from class activation maps, and measure how well they localise objects.

Selvaraju et al., Grad-CAM, ICCV 2017 (https://arxiv.org/abs/1610.02391), section 4.1: the map is thresholded
at 15 % of its maximum, and the box encloses the largest connected segment. ImageNet's localisation counts an
image as right if one of the k best classes is right and its box has an IoU of at least 0.5 with one of the
class's boxes (Russakovsky et al., https://arxiv.org/abs/1409.0575). CorLoc is defined by Deselaers et al.,
Weakly Supervised Localization and Learning with Generic Knowledge, IJCV 2012: the share of a class's images
in which one of its objects is localised, averaged over the classes.

Boxes are x1, y1, x2, y2 in pixels; x2 and y2 are the end of the last pixel.
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
    """Draw a box around the largest connected segment that reaches ``threshold`` of a map's maximum.

    Pixels that touch only at a corner are connected, too.

    Args:
        heat: the map, (H, W), not negative.

    Returns:
        The box, or None if the map is 0 everywhere.
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
    """Intersection over union of two boxes; 0 if one is empty."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    union = _area(box) + _area(other) - common
    return common / union if common else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def localises(box: Box | None, objects: Sequence[Box]) -> bool:
    """Whether a box has a sufficient IoU with one of a class's objects."""
    return box is not None and any(iou(box, each) >= MIN_IOU for each in objects)


@dataclass
class Localised:
    """A network's predictions for an image, and the image's true objects.

    Attributes:
        objects: the true boxes of each class in the image.
        ranked: the predicted classes, most likely first.
        boxes: the box from the map of each class in ``ranked`` and ``objects``.
    """

    objects: Mapping[int, Sequence[Box]]
    ranked: Sequence[int]
    boxes: Mapping[int, Box | None]


def localisation_metrics(images: Sequence[Localised]) -> dict[str, float]:
    """Compute the classification and localisation accuracies, 0 to 1.

    Returns:
        ``top1`` and ``top5``: one of the k best classes is in the image. ``top1_loc`` and ``top5_loc``: that
        class's box is right, too. ``known_loc``: the box of the true class is right, whatever the prediction,
        over all images and their classes. ``corloc``: the same, averaged over the classes.
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
