"""mmpretrain: classes of images."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.frameworks.framework import ImageFramework, ShowHook
from attn_mm.frameworks.mmpretrain import demo, multilabel_demo
from attn_mm.frameworks.mmpretrain.cam_target import class_target
from attn_mm.frameworks.mmpretrain.predict import classifier, is_multilabel
from attn_mm.frameworks.prediction import Prediction, Predictor, Target, View


class MMPretrain(ImageFramework):
    """Classifiers, of one class an image or of several."""

    name = "mmpretrain"
    task = "classification"
    noun = "label"
    labels_images = True
    show_hook = ShowHook("VisualizationHook", switch="enable", folder="out_dir", has_interval=True)

    def score_threshold(self, model: BaseModel) -> float:
        """0.5 for a multi-label classifier; 0 for any other, of which the best classes are shown."""
        return 0.5 if is_multilabel(model) else 0.0

    def predictor(self, model: BaseModel, cfg: Config, score_thr: float, **options: Any) -> Predictor:
        return classifier(model, cfg, score_thr)

    def cam_target(self, model: BaseModel, prediction: Prediction, view: View) -> tuple[str, Target]:
        best = prediction.objects[0]
        return f"{best['class']}, {best['score']:.2f}", class_target(model, view.inputs, best["label"])

    @torch.no_grad()
    def answer(self, model: BaseModel, inputs: Tensor) -> str:
        if is_multilabel(model):
            return ""
        scores = model(inputs, mode="tensor").softmax(1)[0]
        label = int(scores.argmax())
        return f"says {model.dataset_meta['classes'][label]}, {scores[label]:.2f}"

    def demo(self, cfg: Config) -> None:
        kind = multilabel_demo if multilabel_demo.is_multilabel_config(cfg) else demo
        kind.to_demo(cfg)
