"""Measure how well boxes from class activation maps localise objects.

ImageNet's localisation counts an image as right if one of the k best classes is right and its box has an IoU
of at least 0.5 with one of the class's boxes (Russakovsky et al., https://arxiv.org/abs/1409.0575). CorLoc is
defined by Deselaers et al., Weakly Supervised Localization and Learning with Generic Knowledge, IJCV 2012:
the share of a class's images in which one of its objects is localised, averaged over the classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attn_mm.maps.boxes import Box, iou
from attn_mm.papers.classifiers import TOP_K

MIN_IOU = 0.5


def localises(box: Box | None, objects: Sequence[Box]) -> bool:
    """Whether a box has a sufficient IoU with one of a class's objects."""
    return box is not None and any(iou(box, each) >= MIN_IOU for each in objects)


@dataclass
class Guess:
    """A network's prediction for an image.

    Attributes:
        ranked: the predicted classes, most likely first.
        boxes: the box from the map of each class in ``ranked``, and of each class in the image.
    """

    ranked: Sequence[int]
    boxes: Mapping[int, Box | None]

    def finds(self, objects: Mapping[int, Sequence[Box]], k: int) -> bool:
        """Whether one of the k best classes is in the image and its box is right."""
        return any(self.localises(label, objects) for label in self.ranked[:k] if label in objects)

    def localises(self, label: int, objects: Mapping[int, Sequence[Box]]) -> bool:
        """Whether the box of a class in the image is right."""
        return localises(self.boxes[label], objects[label])


@dataclass
class Localised:
    """A network's predictions for an image, and the image's true objects.

    Attributes:
        objects: the true boxes of each class in the image.
        guesses: the predictions that count. If there are several, one right one is enough.
    """

    objects: Mapping[int, Sequence[Box]]
    guesses: Sequence[Guess]


def localisation_metrics(images: Sequence[Localised]) -> dict[str, float]:
    """Compute the classification and localisation accuracies, 0 to 1.

    Returns:
        ``top1`` and ``top5``: one of the k best classes is in the image. ``top1_loc`` and ``top5_loc``: that
        class's box is right, too. ``known_loc``: the box of the true class is right, whatever the prediction,
        over all images and their classes. ``corloc``: the same, averaged over the classes.
    """
    found: dict[str, float] = {}
    for k in TOP_K:
        right = [any(label in i.objects for g in i.guesses for label in g.ranked[:k]) for i in images]
        found[f"top{k}"] = float(np.mean(right))
        hits = [any(guess.finds(image.objects, k) for guess in image.guesses) for image in images]
        found[f"top{k}_loc"] = float(np.mean(hits))
    known: dict[int, list[bool]] = defaultdict(list)
    for image in images:
        for label in image.objects:
            known[label].append(any(guess.localises(label, image.objects) for guess in image.guesses))
    found["known_loc"] = float(np.mean([hit for hits in known.values() for hit in hits]))
    found["corloc"] = float(np.mean([np.mean(hits) for hits in known.values()]))
    return found
