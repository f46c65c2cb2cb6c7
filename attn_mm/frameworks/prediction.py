"""What the predictors of all frameworks return for an image, and for a clip of a video."""

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
    """What the network saw: the whole image, or the crop of one person.

    Attributes:
        picture: the image or crop, (H, W, 3), uint8, BGR.
        inputs: the network's input, (1, C, h, w): resized, normalised, padded.
        valid: the share of the input's height and width that the picture fills, from the top left corner;
            the rest is padding.
        place: index of the person in the prediction's objects, or None for the whole image.
    """

    picture: np.ndarray
    inputs: Tensor
    valid: tuple[float, float] = (1.0, 1.0)
    place: int | None = None


@dataclass
class Prediction:
    """What was found in an image.

    Attributes:
        objects: one dict per object, JSON-serialisable, with a ``"score"`` and often a ``"class"``; the
            object with the highest score comes first.
        picture: the image with the objects drawn on it, (H, W, 3), uint8, BGR; small images are enlarged.
        views: what the network saw: the image, or, for a top-down pose estimator, the crop of each object
            in the same order.
    """

    objects: list[dict]
    picture: np.ndarray
    views: list[View] = field(default_factory=list)


Predictor = Callable[[np.ndarray, str], Prediction]
"""Takes an image, (H, W, 3), uint8, BGR, and its file name."""


@dataclass
class Clip:
    """Frames that the network sees at once.

    Attributes:
        frames: each (H, W, 3), uint8, BGR, in the order that the network sees them.
        places: index of each frame in the video, from 0; a clip longer than the video repeats them.
        stop: index of the first frame of the video after the part that the clip stands for.
        num_clips: number of clips, all of the same length, that the network sees in these frames.
    """

    frames: list[np.ndarray]
    places: list[int]
    stop: int
    num_clips: int = 1

    def shown(self, start: int) -> Iterator[tuple[int, int]]:
        """The frames of the clip that stand for the video from frame ``start`` on.

        Yields:
            the index in ``frames``, and how many frames of the video it stands for: those up to the next
            one's place.
        """
        first = {place: index for index, place in reversed(list(enumerate(self.places)))}
        for place, following in itertools.pairwise([*sorted(first), self.stop]):
            if following > start:
                yield first[place], following - start
                start = following


@dataclass
class ClipView:
    """What the network saw of a clip.

    Attributes:
        pictures: the clip's frames after resizing and cropping, each (H, W, 3), uint8, BGR.
        inputs: the network's input, ``(clips, C, T, h, w)``, or ``(frames, C, h, w)`` for a 2D network.
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
        """Cut a video file into clips; UserError if it can't be decoded."""
        ...

    def __call__(self, clip: Clip) -> tuple[np.ndarray, ClipView]:
        """The scores of a clip, (classes,), float64, and what the network saw."""
        ...

    def best(self, scores: np.ndarray) -> list[dict]:
        """The classes of the highest scores: ``{"class", "label", "score"}``, best first."""
        ...

    def draw(self, image: np.ndarray, actions: list[dict]) -> np.ndarray:
        """A frame, (H, W, 3), uint8, BGR, with what :meth:`best` returned drawn on it."""
        ...


Target = Callable[[], Tensor]
"""Runs a model and returns the score that Grad-CAM explains, a differentiable scalar."""


def check_scores(model: nn.Module, scores: object, label: int) -> None:
    """UserError if a model's output isn't ``(N, classes)``, or has no class ``label``."""
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise UserError(f"{type(model).__name__} gives no scores of classes: a classifier is needed")
    if not 0 <= label < scores.shape[1]:
        raise UserError(f"there is no class {label}: the model knows 0 to {scores.shape[1] - 1}")
