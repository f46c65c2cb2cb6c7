"""Choose between the predictions that a network makes at its computation steps.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1: "we only consider
the most confident prediction [...] with exception of a minority of images that comprise multiple objects,
for which we consider only predictions with unique localization maps (having an IOU of < 0.5)". A step's
confidence is its highest class probability; the box of its map is from :func:`attn_mm.maps.boxes.map_box`.
The authors' released evaluation keeps the steps with unique maps, and counts an image as right if any of
them is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_mm.maps.boxes import Box, iou

MIN_IOU = 0.5
"""From this overlap on, two steps look at the same thing."""

PROTOCOLS = {
    "last": "the prediction of each image's last step",
    "confident": "the prediction of each image's most confident step",
    "any": "any right prediction of the steps with unique maps is enough: the TD paper's protocol",
}
"""What counts as a network's prediction for an image, by the names of ``--steps``."""


def most_confident(scores: np.ndarray) -> np.ndarray:
    """Find the most confident step of each image, from 0; ties go to the earliest step.

    Args:
        scores: ``(steps, images, classes)``, probabilities.

    Returns:
        ``(images,)``.
    """
    return np.asarray(scores).max(2).argmax(0)


def unique_steps(confidences: Sequence[float], boxes: Sequence[Box | None]) -> list[int]:
    """Choose the steps of one image whose predictions count: the most confident of those that overlap.

    Steps are visited from the most to the least confident. A step counts if its box has an IoU below
    ``MIN_IOU`` with the boxes of all steps that count already. A step without a box counts only if it is the
    most confident one.

    Args:
        confidences: confidence of each step.
        boxes: box of each step's map; None if the map is 0.

    Returns:
        The steps, from 0, most confident first.
    """
    order = sorted(range(len(confidences)), key=lambda step: -confidences[step])
    kept = order[:1]
    for step in order[1:]:
        own, others = boxes[step], [boxes[other] for other in kept]
        if own is not None and all(iou(own, other) < MIN_IOU for other in others if other is not None):
            kept.append(step)
    return kept


def best_guess(scores: np.ndarray, kept: Sequence[int], label: int) -> int:
    """Find the kept step that ranks an image's true class highest; the first of them if tied.

    If each image is judged by this step, its top-k accuracy is the share of images for which any kept step
    is right, for every k. Of classes with the same score the one with the lower index ranks higher.

    Args:
        scores: ``(steps, classes)`` of the image.
        kept: the steps that count.
        label: the true class.
    """
    own = scores[list(kept)]
    true = own[:, label : label + 1]
    ranks = (own > true).sum(1) + (own[:, :label] == true).sum(1)
    return kept[int(ranks.argmin())]
