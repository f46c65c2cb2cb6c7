"""From a config and a checkpoint to what predicts on images or videos, and draws what it found."""

from collections.abc import Callable

from torch import nn

from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmaction.draw import draw_actions
from attn_mm.frameworks.mmaction.predict import ClipView, Recogniser
from attn_mm.frameworks.mmdet.predict import detector
from attn_mm.frameworks.mmpose.persons import PersonFinder, detected_persons, listed_persons, whole_image
from attn_mm.frameworks.mmpose.predict import pose_estimator
from attn_mm.frameworks.mmpretrain.predict import classifier, is_multilabel
from attn_mm.frameworks.prediction import Prediction, Predictor, View

# For images, by default_scope, the name under which a framework's configs are known.
PREDICTORS: dict[str, Callable[..., Predictor]] = {
    "mmdet": detector,
    "mmpose": pose_estimator,
    "mmpretrain": classifier,
}

__all__ = [
    "PREDICTORS",
    "ClipView",
    "PersonFinder",
    "Prediction",
    "Predictor",
    "Recogniser",
    "View",
    "classifier",
    "detected_persons",
    "detector",
    "draw_actions",
    "listed_persons",
    "load_model",
    "pose_estimator",
    "score_threshold",
    "whole_image",
]


def score_threshold(model: nn.Module, scope: str) -> float:
    """The least score of what a model of that ``default_scope`` finds, unless a user says another.

    Objects and persons: 0.3; labels of a multi-label classifier: 0.5; other classes have none.
    """
    if scope != "mmpretrain":
        return 0.3
    return 0.5 if is_multilabel(model) else 0.0
