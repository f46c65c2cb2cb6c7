"""What a predictor gives for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from torch import Tensor

# Labels and lines have a fixed size in pixels: smaller images are drawn enlarged.
MIN_PICTURE_SIDE = 480


@dataclass
class View:
    """What the network was shown: the image, or one person's part of it.

    Attributes:
        picture: that part, (H, W, 3) uint8 BGR.
        inputs: the network's input, (1, C, h, w): resized, normalised, padded.
        valid: the part of the input's height and width, from the top left
            corner, that is the picture; the rest is padding.
        place: of the object that it shows among the prediction's, or None for the image.
    """

    picture: np.ndarray
    inputs: Tensor
    valid: tuple[float, float] = (1.0, 1.0)
    place: int | None = None


@dataclass
class Prediction:
    """What was found in an image.

    Attributes:
        objects: one dict per object, ready for JSON.
        picture: the image with the objects drawn, uint8 BGR.
        views: what the network was shown: the image, or, for a top-down pose
            estimator, the crop of each object, in the objects' order.
    """

    objects: list[dict]
    picture: np.ndarray
    views: list[View] = field(default_factory=list)


Predictor = Callable[[np.ndarray, str], Prediction]
"""From an image, (H, W, 3) uint8 BGR, and its file's name."""


def enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image large enough to draw on, and by how much it was enlarged."""
    zoom = MIN_PICTURE_SIDE / max(image.shape[:2])
    if zoom <= 1:
        return image, 1.0
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), zoom
