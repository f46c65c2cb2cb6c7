"""Segment images with any mmsegmentation model."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.errors import UserError
from attn_mm.frameworks.mmseg.draw import class_map_drawer
from attn_mm.frameworks.pipelines import Pipeline, test_pipeline
from attn_mm.frameworks.prediction import Prediction, Predictor, View


def segmenter(model: BaseModel, cfg: Config, score_thr: float) -> Predictor:
    """A predictor of the class of every pixel.

    An object is a class that has pixels, ``{"class", "label", "score", "area", "segmentation"}``, the highest
    score first. The score is the mean probability of the class over its pixels, the area their share of the
    image, the segmentation COCO's compressed run-length code.

    Args:
        model: the model, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        score_thr: classes with a lower score are left out.

    Raises:
        UserError: when predicting, if the model's output has no classes of pixels.
    """
    classes = model.dataset_meta["classes"]
    draw = class_map_drawer(model.dataset_meta)
    load, *rest = inference_steps(cfg)
    pipeline = Pipeline(cfg, [dict(load, type="mmseg.LoadImageFromNDArray"), *rest])

    @torch.no_grad()
    def predict(image: np.ndarray, name: str = "") -> Prediction:
        batch = model.data_preprocessor(pseudo_collate([pipeline({"img": image})]), False)
        sample = model(**batch, mode="predict")[0].cpu()
        if "pred_sem_seg" not in sample:
            found = ", ".join(key for key in sample.all_keys() if key.startswith("pred_")) or "nothing"
            raise UserError(f"{type(model).__name__} predicts {found}: a segmentor is needed")
        labels = sample.pred_sem_seg.data[0].numpy().astype(np.intp)
        check_classes(model, labels, classes)
        objects = _describe(labels, probabilities(sample.seg_logits.data, labels), classes)
        objects = [item for item in objects if item["score"] >= score_thr]
        return Prediction(
            objects=objects,
            picture=draw(image, labels, [item["label"] for item in objects]),
            views=[View(image, batch["inputs"], _valid_part(sample.metainfo, batch["inputs"]))],
        )

    return predict


def inference_steps(cfg: Config) -> list[dict]:
    """The steps of a config's test pipeline without those that load annotations."""
    return [step for step in test_pipeline(cfg) if not str(step.get("type")).endswith("Annotations")]


def check_classes(model: BaseModel, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """UserError if a model predicts a class that has no name."""
    if labels.max() >= len(classes):
        raise UserError(
            f"{type(model).__name__} predicts class {labels.max()}, but only {len(classes)} classes are "
            "named: make num_classes of its heads and the classes of the test set the same"
        )


def probabilities(logits: Tensor, labels: np.ndarray) -> np.ndarray:
    """The probability of each pixel's class.

    Args:
        logits: ``(classes, H, W)``, or ``(1, H, W)``, the probability of class 1.
        labels: ``(H, W)``, the class of each pixel.
    """
    if len(logits) == 1:
        logits = torch.cat([1 - logits, logits])
    elif logits.min() >= 0:
        # The scores of MaskFormer and Mask2Former are sums of products of probabilities.
        logits = logits / logits.sum(0).clamp_min(torch.finfo(logits.dtype).tiny)
    else:
        logits = logits.softmax(0)
    return logits.gather(0, torch.from_numpy(labels)[None])[0].float().numpy()


def _describe(labels: np.ndarray, scores: np.ndarray, classes: tuple[str, ...]) -> list[dict]:
    from pycocotools import mask as mask_utils

    objects = []
    for label in np.unique(labels).tolist():
        mask = labels == label
        code = mask_utils.encode(np.asfortranarray(mask, np.uint8))
        objects.append(
            {
                "class": classes[label],
                "label": label,
                "score": round(float(scores[mask].mean(dtype=np.float64)), 5),
                "area": round(float(mask.mean()), 5),
                "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
            }
        )
    return sorted(objects, key=lambda item: -item["score"])


def _valid_part(meta: dict, inputs: Tensor) -> tuple[float, float]:
    height, width = meta["img_shape"][:2]
    return min(1.0, height / inputs.shape[2]), min(1.0, width / inputs.shape[3])
