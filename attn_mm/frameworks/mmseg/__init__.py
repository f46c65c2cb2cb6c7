"""mmsegmentation: the class of every pixel of an image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.frameworks.framework import ImageFramework, ShowHook
from attn_mm.frameworks.mmseg.cam_target import pixels_target
from attn_mm.frameworks.mmseg.demo import to_demo
from attn_mm.frameworks.mmseg.draw import colours_of
from attn_mm.frameworks.mmseg.logits import pixel_logits
from attn_mm.frameworks.mmseg.predict import segmenter
from attn_mm.frameworks.prediction import Prediction, Predictor, Target, View


class MMSeg(ImageFramework):
    """Semantic segmentation."""

    name = "mmseg"
    task = "segmentation"
    noun = "class"
    show_hook = ShowHook("SegVisualizationHook", switch="draw", folder=None, has_interval=True)

    def score_threshold(self, model: BaseModel) -> float:
        """0: every pixel has a class."""
        return 0.0

    def dataset_meta(self, cfg: Config, saved: dict) -> dict:
        meta = super().dataset_meta(cfg, saved)
        return {**meta, "palette": colours_of(meta)}

    def input_shape(self, cfg: Config) -> tuple[int, ...]:
        """The training crop; a test image keeps its aspect ratio."""
        size = (cfg.model.get("data_preprocessor") or {}).get("size")
        return (3, *size) if size else super().input_shape(cfg)

    def predictor(self, model: BaseModel, cfg: Config, score_thr: float, **options: Any) -> Predictor:
        return segmenter(model, cfg, score_thr)

    def cam_target(self, model: BaseModel, prediction: Prediction, view: View) -> tuple[str, Target]:
        # The background is everywhere; what is before it says more.
        things = [item for item in prediction.objects if item["class"] != "background"]
        best = (things or prediction.objects)[0]
        return (
            f"the pixels of {best['class']}, {best['score']:.2f}",
            pixels_target(model, view.inputs, best["label"]),
        )

    def demo(self, cfg: Config) -> None:
        to_demo(cfg)

    def plain_forward(self, model: BaseModel) -> Callable[[Tensor], object]:
        return partial(pixel_logits, model)
