"""What the predictors of all frameworks give for an image, and for a clip of a video."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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


@dataclass
class Clip:
    """Frames that a network is shown at once.

    Attributes:
        frames: uint8 BGR, in the order shown.
        places: their places in the video, from 0; those of a short video's clip begin again.
        stop: up to this place, which is excluded, the clip tells about the video.
        num_clips: clips that the network sees in the frames, all of the same length.
    """

    frames: list[np.ndarray]
    places: list[int]
    stop: int
    num_clips: int = 1

    def shown(self, start: int) -> Iterator[tuple[int, int]]:
        """The indices of the frames that tell about the video from the place ``start`` on.

        Each with the number of the video's frames that it stands for: those up to the next one's place.
        """
        first = {place: index for index, place in reversed(list(enumerate(self.places)))}
        for place, following in itertools.pairwise([*sorted(first), self.stop]):
            if following > start:
                yield first[place], following - start
                start = following


@dataclass
class ClipView:
    """What the network was shown of a clip.

    Attributes:
        pictures: uint8 BGR, one for each of the clip's frames: resized and cropped.
        inputs: the network's input, ``(clips, C, T, h, w)``, or ``(frames, C, h, w)`` of a 2D network.
    """

    pictures: list[np.ndarray]
    inputs: Tensor


class VideoPredictor(Protocol):
    """Scores a video clip by clip, and draws the result.

    Attributes:
        classes: their names.
    """

    classes: list[str]

    def clips(self, path: Path) -> Iterator[Clip]:
        """What the network is to see of a video; UserError where it can't be decoded."""
        ...

    def __call__(self, clip: Clip) -> tuple[np.ndarray, ClipView]:
        """The scores of a clip, (classes,), float64, and what the network was shown."""
        ...

    def best(self, scores: np.ndarray) -> list[dict]:
        """The classes of the highest scores: ``{"class", "label", "score"}``, best first."""
        ...

    def draw(self, image: np.ndarray, actions: list[dict]) -> np.ndarray:
        """A frame, uint8 BGR, with what :meth:`best` gave drawn on it."""
        ...


Target = Callable[[], Tensor]
"""Runs a model and gives the score that Grad-CAM explains, a differentiable scalar."""


def check_scores(model: nn.Module, scores: object, label: int) -> None:
    """UserError where a model's output is no ``(N, classes)``, or has no class ``label``."""
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UserError(f"{type(model).__name__} gives no scores of classes: a classifier is needed")
    if not 0 <= label < scores.shape[1]:
        raise UserError(f"there is no class {label}: the model knows 0 to {scores.shape[1] - 1}")
