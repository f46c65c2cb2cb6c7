"""mmaction2: actions in videos."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from attn_mm.datasets.media import VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.framework import ShowHook, VideoFramework
from attn_mm.frameworks.mmaction.cam_target import action_target
from attn_mm.frameworks.mmaction.demo import examine, to_demo
from attn_mm.frameworks.mmaction.predict import Recogniser
from attn_mm.frameworks.pipelines import pipeline_steps
from attn_mm.frameworks.prediction import ClipView, Target, VideoPredictor
from attn_mm.utils.config import type_name
from attn_mm.utils.files import check_regular


class MMAction(VideoFramework):
    """Recognisers that see frames, in 2D or 3D."""

    name = "mmaction"
    task = "action"
    flags = ("--classes",)
    show_hook = ShowHook("VisualizationHook", switch="enable", folder="out_dir", has_interval=True)

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--classes",
            type=Path,
            metavar="FILE",
            help="names of an action config's classes, one a line (default: the checkpoint's, or else "
            "numbers)",
        )

    def options(self, flags: Mapping[str, Any], source: list[Path] | VideoFrames, device: str) -> dict:
        return {"classes": read_classes(flags["--classes"])} if "--classes" in flags else {}

    def dataset_meta(self, cfg: Config, saved: dict) -> dict:
        """What the checkpoint says: mmaction's data sets know no names of their classes."""
        return saved

    def predictor(self, model: BaseModel, cfg: Config, **options: Any) -> VideoPredictor:
        return Recogniser(model, cfg, **options)

    def cam_target(self, model: BaseModel, view: ClipView, best: dict) -> tuple[str, Target]:
        name = f"{best['class']}, {best['score']:.2f} in this clip"
        return name, action_target(model, view.inputs, best["label"])

    def demo(self, cfg: Config) -> None:
        to_demo(cfg)

    def demo_metrics(self, model: BaseModel, cfg: Config) -> dict[str, float]:
        return examine(model, cfg)

    def input_shape(self, cfg: Config) -> tuple[int, ...]:
        """``(3, T, h, w)`` for a clip of a 3D network, ``(T, 3, h, w)`` for the frames of a 2D one."""
        steps = pipeline_steps(cfg)
        channels, *size = super().input_shape(cfg)
        sampler = next((step for step in steps if type_name(step).endswith("SampleFrames")), None)
        if sampler is None:
            return (channels, *size)
        if any(step.get("input_format") == "NCTHW" for step in steps):
            return (channels, sampler.clip_len, *size)
        return (sampler.get("num_clips", 1), channels, *size)

    def plain_forward(self, model: BaseModel) -> Callable[[Tensor], object]:
        return model.backbone

    def forward_arguments(self, model: BaseModel, inputs: Tensor) -> tuple[Tensor, dict]:
        volumes = any(isinstance(module, nn.Conv3d) for module in model.modules())
        # Recognizers take several clips, or frames, of a video.
        x = inputs if inputs.dim() == 5 and not volumes else inputs[:, None]
        return x, dict(mode="tensor", stage="head")


def read_classes(path: Path) -> list[str]:
    """The lines of a text file; UserError where it can't be read."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise UserError(f"--classes {path} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--classes {path} is no text file") from error
