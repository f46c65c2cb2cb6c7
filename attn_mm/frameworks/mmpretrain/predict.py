"""Classify images with any mmpretrain classifier."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from attn_mm.errors import UserError
from attn_mm.frameworks.mmpretrain.draw import class_drawer
from attn_mm.frameworks.pipelines import Pipeline, test_pipeline
from attn_mm.frameworks.prediction import Prediction, Predictor, View
from attn_mm.maps.overlay import enlarged

TOP = 5


def is_multilabel(model: BaseModel) -> bool:
    """Whether an mmpretrain model has a multi-label head: each class has its own probability."""
    from mmpretrain.models.heads import MultiLabelClsHead

    return isinstance(getattr(model, "head", None), MultiLabelClsHead)


def classifier(model: BaseModel, cfg: Config, score_thr: float) -> Predictor:
    """A predictor of classes.

    An object is ``{"class", "label", "score"}``, best first: the ``TOP`` classes with the highest scores,
    or all classes for a multi-label head. Scores are the head's probabilities, which sum to 1 unless the head
    is multi-label. The view is what the test pipeline keeps of the image, usually the centre.

    Args:
        model: the model, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        score_thr: classes with a lower score are left out.

    Raises:
        UserError: when predicting, if the model's output has no scores.
    """
    classes = model.dataset_meta["classes"]
    top = len(classes) if is_multilabel(model) else min(TOP, len(classes))
    draw = class_drawer(model.dataset_meta)
    pipeline = Pipeline(cfg, inference_steps(cfg))

    @torch.no_grad()
    def predict(image: np.ndarray, name: str = "") -> Prediction:
        data = pipeline({"img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]})
        picture = np.ascontiguousarray(data["inputs"].permute(1, 2, 0).numpy())
        batch = model.data_preprocessor(pseudo_collate([data]), False)
        sample = model(**batch, mode="predict")[0].cpu()
        if "pred_score" not in sample:
            raise UserError(f"{type(model).__name__} predicts no scores of classes: a classifier is needed")
        scores, labels = sample.pred_score.float().topk(top)
        labels = labels[scores >= score_thr]
        sample.set_pred_label(labels)
        return Prediction(
            objects=[
                {"class": classes[label], "label": label, "score": round(score, 5)}
                for label, score in zip(labels.tolist(), scores.tolist())
            ],
            picture=draw(image, sample),
            views=[View(enlarged(picture)[0], batch["inputs"], _valid_part(picture, batch["inputs"]))],
        )

    return predict


def inference_steps(cfg: Config) -> list[dict]:
    """The steps of a config's test pipeline after the image is loaded, uint8, BGR."""
    return [
        step for step in test_pipeline(cfg) if not str(step.get("type")).rpartition(".")[2].startswith("Load")
    ]


def _valid_part(picture: np.ndarray, inputs: torch.Tensor) -> tuple[float, float]:
    height, width = picture.shape[:2]
    return height / inputs.shape[2], width / inputs.shape[3]
