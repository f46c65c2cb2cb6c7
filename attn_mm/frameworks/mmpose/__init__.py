"""mmpose: keypoints of persons in images."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel

from attn_mm.datasets.media import VideoFrames
from attn_mm.frameworks.framework import ImageFramework, ShowHook
from attn_mm.frameworks.mmpose.cam_target import keypoint_target
from attn_mm.frameworks.mmpose.demo import to_demo
from attn_mm.frameworks.mmpose.flags import FLAGS, add_person_flags, person_finder
from attn_mm.frameworks.mmpose.persons import annotated_persons
from attn_mm.frameworks.mmpose.predict import pose_estimator
from attn_mm.frameworks.pipelines import metainfo_of_test_set
from attn_mm.frameworks.prediction import Prediction, Predictor, Target, View


class MMPose(ImageFramework):
    """Top-down pose estimators."""

    name = "mmpose"
    task = "pose"
    noun = "person"
    flags = FLAGS
    show_hook = ShowHook("PoseVisualizationHook", switch="enable", folder="out_dir")

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        add_person_flags(parser)

    def options(self, flags: Mapping[str, Any], source: list[Path] | VideoFrames, device: str) -> dict:
        return {"find_persons": person_finder(flags, source, device)}

    def dataset_meta(self, cfg: Config, saved: dict) -> dict:
        """The keypoints' names, links and colours."""
        return saved if "keypoint_id2name" in saved else metainfo_of_test_set(cfg)

    def legend(self, dataset_meta: dict) -> dict:
        """The names of the keypoints, and the pairs of them that are linked."""
        return {
            "keypoints": [name for _, name in sorted(dataset_meta["keypoint_id2name"].items())],
            "skeleton": [list(link) for link in dataset_meta["skeleton_links"]],
        }

    def predictor(self, model: BaseModel, cfg: Config, score_thr: float, **options: Any) -> Predictor:
        return pose_estimator(model, cfg, score_thr, **options)

    def demo_options(self, dataset: BaseDataset) -> dict:
        return {"find_persons": annotated_persons(dataset)}

    def cam_target(self, model: BaseModel, prediction: Prediction, view: View) -> tuple[str, Target]:
        scores = prediction.objects[view.place or 0]["keypoint_scores"]
        keypoint = int(np.argmax(scores))
        name = f"{model.dataset_meta['keypoint_id2name'][keypoint]}, {scores[keypoint]:.2f}"
        return name, keypoint_target(model, view.inputs, keypoint)

    def demo(self, cfg: Config) -> None:
        to_demo(cfg)
