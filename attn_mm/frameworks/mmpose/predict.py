"""Find keypoints of persons with any top-down model of mmpose."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from attn_mm.errors import UserError
from attn_mm.frameworks.mmpose.draw import skeleton_drawer
from attn_mm.frameworks.mmpose.persons import PersonFinder, whole_image
from attn_mm.frameworks.pipelines import Pipeline, test_pipeline
from attn_mm.frameworks.prediction import Prediction, Predictor, View
from attn_mm.maps.overlay import enlarged


def pose_estimator(
    model: nn.Module, cfg: Config, score_thr: float, find_persons: PersonFinder = whole_image
) -> Predictor:
    """A predictor of keypoints.

    An object is ``{"score", "bbox", "keypoints", "keypoint_scores"}``: the score of the person's box, the box
    x1, y1, x2, y2, and x, y and score of each keypoint. Coordinates are pixels of the image.

    Args:
        model: the model, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        score_thr: persons whose box has a lower score are left out; keypoints with a lower score are not
            drawn.
        find_persons: finds the boxes in an image.

    Raises:
        UserError: the model is not top-down.
    """
    from mmpose.models import TopdownPoseEstimator
    from mmpose.structures import merge_data_samples

    if not isinstance(model, TopdownPoseEstimator):
        raise UserError(
            f"{cfg.filename}: {type(model).__name__} is no top-down pose estimator, and only these are served"
        )
    draw = skeleton_drawer(model.dataset_meta, score_thr)
    pipeline = Pipeline(cfg, test_pipeline(cfg))

    @torch.no_grad()
    def predict(image: np.ndarray, name: str = "") -> Prediction:
        boxes, scores = find_persons(image, name)
        crops = [
            pipeline(dict(model.dataset_meta, img=image, bbox=box[None], bbox_score=score[None]))
            for box, score in zip(boxes, scores, strict=True)
            if score > score_thr
        ]
        if not crops:
            return Prediction([], enlarged(image)[0])
        pictures = [crop["inputs"].permute(1, 2, 0).numpy() for crop in crops]
        batch = model.data_preprocessor(pseudo_collate(crops), False)
        persons = merge_data_samples(model(**batch, mode="predict"))
        inputs = batch["inputs"].split(1)
        return Prediction(
            objects=_describe(persons.pred_instances),
            picture=draw(image, persons),
            views=[View(picture, inputs[place], place=place) for place, picture in enumerate(pictures)],
        )

    return predict


def _describe(instances) -> list[dict]:
    columns = (
        np.round(np.asarray(instances[key], float), digits).tolist()
        for key, digits in (("bbox_scores", 5), ("bboxes", 2), ("keypoints", 2), ("keypoint_scores", 5))
    )
    names = ("score", "bbox", "keypoints", "keypoint_scores")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
