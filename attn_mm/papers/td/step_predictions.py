"""Which of a network's predictions counts, if it gives one at each computation step.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1: "we only consider
the most confident prediction [...] with exception of a minority of images that comprise multiple objects,
for which we consider only predictions with unique localization maps (having an IOU of < 0.5)". A step's
confidence is the highest probability that it gives a class; its map's box is that of
:func:`attn_mm.papers.td.boxes_of_maps.map_box`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_mm.papers.td.boxes_of_maps import MIN_IOU, Box, iou


def most_confident(scores: np.ndarray) -> np.ndarray:
    """The step of the highest confidence, from 0, of each image; of equals the earliest.

    Args:
        scores: ``(steps, images, classes)``, probabilities.

    Returns:
        ``(images,)``.
    """
    return np.asarray(scores).max(2).argmax(0)


def unique_steps(confidences: Sequence[float], boxes: Sequence[Box | None]) -> list[int]:
    """Of one image, the steps whose predictions count: of those with overlapping maps the most confident.

    From the most confident step on, a step counts if its box overlaps that of none before by ``MIN_IOU`` or
    more. A step without a box counts only if it is the most confident one.

    Args:
        confidences: of each step.
        boxes: of each step's map; None where the map is 0.

    Returns:
        the steps from 0, the most confident first.
    """
    order = sorted(range(len(confidences)), key=lambda step: -confidences[step])
    kept = order[:1]
    for step in order[1:]:
        own, others = boxes[step], [boxes[other] for other in kept]
        if own is not None and all(iou(own, other) < MIN_IOU for other in others if other is not None):
            kept.append(step)
    return kept
