"""From a config and a checkpoint to what predicts on images or videos, and draws what it found."""

from collections.abc import Callable

from attn_mm.engine.predictors.action import ClipView, Recogniser, draw_actions
from attn_mm.engine.predictors.classification import classifier
from attn_mm.engine.predictors.detection import detector
from attn_mm.engine.predictors.loading import load_model
from attn_mm.engine.predictors.persons import PersonFinder, detected_persons, listed_persons, whole_image
from attn_mm.engine.predictors.pose import pose_estimator
from attn_mm.engine.predictors.prediction import Prediction, Predictor, View
from attn_mm.engine.predictors.thresholds import score_threshold

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
