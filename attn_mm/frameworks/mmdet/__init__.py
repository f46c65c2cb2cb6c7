"""mmdet: objects in images, as boxes and masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.frameworks.framework import ImageFramework, ShowHook
from attn_mm.frameworks.mmdet.cam_target import box_target
from attn_mm.frameworks.mmdet.demo import to_demo
from attn_mm.frameworks.mmdet.predict import detector
from attn_mm.frameworks.prediction import Prediction, Predictor, Target, View
from attn_mm.utils.config import type_name, walk


class MMDet(ImageFramework):
    """Detectors and instance segmenters."""

    name = "mmdet"
    task = "detection"
    show_hook = ShowHook("DetVisualizationHook", switch="draw", folder="test_out_dir")

    def predictor(self, model: BaseModel, cfg: Config, score_thr: float, **options: Any) -> Predictor:
        return detector(model, cfg, score_thr)

    def cam_target(self, model: BaseModel, prediction: Prediction, view: View) -> tuple[str, Target]:
        best = prediction.objects[0]
        name = f"the box of {best['class']}, {best['score']:.2f}"
        return name, box_target(model, view.inputs, 0, view.valid)

    def demo(self, cfg: Config) -> None:
        to_demo(cfg)

    def why_no_demo(self, cfg: Config) -> str | None:
        if any(type_name(node) == "SSDVGG" for node in walk(cfg.get("model")) if "type" in node):
            return (
                "needs its ImageNet weights: from scratch its VGG16 learns nothing in minutes (AP50 "
                "0.03); use another detector"
            )
        return None

    def plain_forward(self, model: BaseModel) -> Callable[[Tensor], object]:
        from mmdet.models.detectors import SingleStageDetector

        # The second stage of a detector asks for boxes.
        if not isinstance(model, SingleStageDetector):
            return model.extract_feat
        return super().plain_forward(model)

    def forward_arguments(self, model: BaseModel, inputs: Tensor) -> tuple[Tensor, dict]:
        from mmdet.structures import DetDataSample

        size = tuple(inputs.shape[-2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1, 1)
        )
        return inputs, dict(mode="tensor", data_samples=[DetDataSample(metainfo=meta)])
