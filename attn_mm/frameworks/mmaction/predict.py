"""Recognise actions in videos with any 2D or 3D recogniser of mmaction that takes frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.datasets.media import VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.mmaction.clips import chosen_frames, consecutive_clips, offsets_of_clip
from attn_mm.frameworks.mmaction.draw import draw_actions
from attn_mm.frameworks.pipelines import Pipeline, test_pipeline
from attn_mm.frameworks.prediction import Clip, ClipView

NUM_ACTIONS = 5


class Recogniser:
    """The :class:`~attn_mm.frameworks.prediction.VideoPredictor` of a recogniser.

    Args:
        model: a ``Recognizer2D`` or ``Recognizer3D``, with ``dataset_meta``.
        cfg: its config, for the test pipeline.
        classes: names of the classes. None: those of the checkpoint or of the config's test set, or else
            ``class 0``, ``class 1`` and so on.

    Raises:
        UserError: the model is of another type, its pipeline has no sampler, or the number of names differs
            from the number of classes.
    """

    def __init__(self, model: BaseModel, cfg: Config, classes: list[str] | None = None) -> None:
        from mmaction.models import Recognizer2D, Recognizer3D

        if not isinstance(model, (Recognizer2D, Recognizer3D)):
            raise UserError(
                f"{cfg.filename}: {type(model).__name__} is no Recognizer2D or Recognizer3D, "
                "and only these are served"
            )
        self.model = model
        # The scores of clips are then probabilities, and so are their means.
        model.cls_head.average_clips = "prob"
        self.classes = _named(model, cfg, classes)
        sampler, steps = _split(cfg)
        self._sampler, self._steps = Pipeline(cfg, [sampler]).compose.transforms[0], Pipeline(cfg, steps)
        self._spread = self._sampler.clip_len == 1 or "Uniform" in type(self._sampler).__name__

    def clips(self, path: Path) -> Iterator[Clip]:
        """Cut a video file into the clips that the network sees.

        Raises:
            UserError: the video can't be decoded.
        """
        if self._spread:
            yield chosen_frames(path, self._sampler)
        else:
            frames = VideoFrames(path)
            yield from consecutive_clips(frames, *offsets_of_clip(self._sampler, frames.rate))

    @torch.no_grad()
    def __call__(self, clip: Clip) -> tuple[np.ndarray, ClipView]:
        """The scores of a clip, (classes,), float64, and what the network saw."""
        images = [frame[..., ::-1] for frame in clip.frames]
        size = images[0].shape[:2]
        length = len(images) // clip.num_clips
        data = self._steps(
            dict(
                imgs=images,
                img_shape=size,
                original_shape=size,
                modality="RGB",
                clip_len=length,
                num_clips=clip.num_clips,
            )
        )
        batch = self.model.data_preprocessor(pseudo_collate([data]), False)
        (sample,) = self.model(**batch, mode="predict")
        view = ClipView(_pictures(data["inputs"]), batch["inputs"].flatten(0, 1))
        return sample.pred_score.double().cpu().numpy(), view

    def best(self, scores: np.ndarray) -> list[dict]:
        """The ``NUM_ACTIONS`` classes of the highest scores: ``{"class", "label", "score"}``, best first."""
        labels = np.argsort(-scores, kind="stable")[:NUM_ACTIONS].tolist()
        return [
            {"class": self.classes[label], "label": label, "score": round(float(scores[label]), 5)}
            for label in labels
        ]

    def draw(self, image: np.ndarray, actions: list[dict]) -> np.ndarray:
        """A frame, uint8 BGR, with the actions of :meth:`best` over its top left corner."""
        return draw_actions(image, actions)


def _named(model: BaseModel, cfg: Config, given: list[str] | None) -> list[str]:
    """The names of the model's classes."""
    dataset = cfg.get("test_dataloader", {}).get("dataset", {})
    saved = model.dataset_meta.get("classes") or dataset.get("metainfo", {}).get("classes")
    number = model.cls_head.num_classes
    names = list(given or saved or [f"class {label}" for label in range(number)])
    if len(names) != number:
        source = "--classes" if given else "the checkpoint or the config"
        raise UserError(f"{cfg.filename} tells {number} classes apart, and {source} names {len(names)}")
    return names


def _split(cfg: Config) -> tuple[dict, list[dict]]:
    """The step of a config's test pipeline that samples frames, and the steps after the decoder.

    As in mmaction's inferencer, one centre crop replaces three or ten crops.
    """
    pipeline = test_pipeline(cfg)
    samplers = [place for place, step in enumerate(pipeline) if "Sample" in str(step.get("type"))]
    if not samplers:
        raise UserError(f"{cfg.filename}: no step of the test pipeline samples frames, as SampleFrames does")
    for step in pipeline:
        if str(step.get("type")).rpartition(".")[2] in ("ThreeCrop", "TenCrop"):
            step["type"] = "CenterCrop"
    return pipeline[samplers[0]], pipeline[samplers[0] + 2 :]


def _pictures(inputs: Tensor) -> list[np.ndarray]:
    """Split clips ``(clips, 3, T, h, w)`` or frames ``(frames, 3, h, w)``, uint8, RGB, into BGR pictures."""
    frames = inputs.movedim(1, -1).flatten(0, -4).flip(-1)
    return list(frames.contiguous().numpy())
