"""What a predictor gives for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from attn_mm.errors import UserError


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


Target = Callable[[], Tensor]


def check_scores(model: nn.Module, scores: object, label: int) -> None:
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UserError(f"{type(model).__name__} gives no scores of classes: a classifier is needed")
    if not 0 <= label < scores.shape[1]:
        raise UserError(f"there is no class {label}: the model knows 0 to {scores.shape[1] - 1}")
