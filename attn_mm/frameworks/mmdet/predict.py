"""Detection and instance segmentation with any mmdet model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from attn_mm.errors import UserError
from attn_mm.frameworks.mmdet.draw import box_drawer
from attn_mm.frameworks.pipelines import Pipeline, test_pipeline
from attn_mm.frameworks.prediction import Prediction, Predictor, View


def detector(model: BaseModel, cfg: Config, score_thr: float) -> Predictor:
    """A predictor of boxes and masks.

    An object is ``{"class", "label", "score", "bbox"}``, and ``"segmentation"`` too for a segmenter. The box
    is x1, y1, x2, y2 in pixels of the image; the mask is COCO's compressed run-length code.

    Args:
        model: the model, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        score_thr: objects with a lower score are left out.

    Raises:
        UserError: when predicting, if the model's output has no boxes.
    """
    detect = detection(model, cfg)
    draw = box_drawer(model.dataset_meta, score_thr)

    def predict(image: np.ndarray, name: str = "") -> Prediction:
        sample, inputs = detect(image)
        sample.pred_instances = sample.pred_instances[sample.pred_instances.scores > score_thr]
        return Prediction(
            objects=_describe(sample.pred_instances, model.dataset_meta["classes"]),
            picture=draw(image, sample),
            views=[View(image, inputs, _valid_part(sample.metainfo, inputs.shape[-2:]))],
        )

    return predict


def detection(model: BaseModel, cfg: Config) -> Callable[[np.ndarray], tuple]:
    """A function from an image, (H, W, 3), uint8, BGR, to mmdet's data sample and the network's input."""
    load, *rest = inference_steps(cfg)
    pipeline = Pipeline(cfg, [dict(load, type="mmdet.LoadImageFromNDArray"), *rest])

    @torch.no_grad()
    def detect(image: np.ndarray) -> tuple:
        data = pipeline({"img": image, "img_id": 0})
        batch = {"inputs": [data["inputs"]], "data_samples": [data["data_samples"]]}
        batch = model.data_preprocessor(batch, False)
        sample = model(**batch, mode="predict")[0].cpu()
        check_instances(sample, model)
        return sample, batch["inputs"]

    return detect


def inference_steps(cfg: Config) -> list[dict]:
    """The steps of a config's test pipeline without those that load annotations."""
    return [step for step in test_pipeline(cfg) if not str(step.get("type")).endswith("Annotations")]


def check_instances(sample, model: BaseModel) -> None:
    """UserError if mmdet's data sample of an image has no boxes."""
    if "pred_instances" not in sample or "bboxes" not in sample.pred_instances:
        found = ", ".join(key for key in sample.all_keys() if key.startswith("pred_")) or "nothing"
        raise UserError(
            f"{type(model).__name__} predicts {found}: a detector or instance segmenter is needed, "
            "whose predictions are boxes"
        )


def _describe(instances, classes: tuple[str, ...]) -> list[dict]:
    from mmdet.structures.mask import encode_mask_results

    objects = [
        {
            "class": classes[label],
            "label": label,
            "score": round(score, 5),
            "bbox": [round(side, 2) for side in box],
        }
        for label, score, box in zip(
            instances.labels.tolist(), instances.scores.tolist(), instances.bboxes.tolist(), strict=True
        )
    ]
    if "masks" in instances:
        for item, code in zip(objects, encode_mask_results(instances.masks.numpy()), strict=True):
            item["segmentation"] = {"size": code["size"], "counts": code["counts"].decode("ascii")}
    return objects


def _valid_part(meta: dict, padded: tuple[int, int]) -> tuple[float, float]:
    height, width = meta["img_shape"]
    if "scale_factor" in meta:
        # A pipeline that pads writes the padded size into img_shape.
        height, width = (
            side * by for side, by in zip(meta["ori_shape"], meta["scale_factor"][::-1], strict=True)
        )
    return min(1.0, height / padded[0]), min(1.0, width / padded[1])
