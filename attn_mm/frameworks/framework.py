"""The interface that attn_mm requires of a framework.

To add one, write a folder beside this file with a subclass of :class:`ImageFramework` or
:class:`VideoFramework`, and register it in :mod:`attn_mm.frameworks`. Import the framework's own packages
inside functions: a user of one framework needs no other one.

Shapes: ``N`` inputs of ``C`` channels, ``h`` rows and ``w`` columns; a clip also has ``T`` frames. Images and
pictures are ``(H, W, 3)``, uint8, BGR. Boxes are ``x1, y1, x2, y2`` in pixels of the image.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.datasets.media import VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.pipelines import image_size, metainfo_of_test_set
from attn_mm.frameworks.prediction import ClipView, Prediction, Predictor, Target, VideoPredictor, View


@dataclass(frozen=True)
class ShowHook:
    """The hook of a framework's configs that draws predictions during a test.

    Attributes:
        type: name of the hook.
        switch: its option that turns it on.
        folder: its option for the output folder; None where it has none.
        has_interval: whether it skips pictures unless its option ``interval`` is 1.
    """

    type: str
    switch: str
    folder: str | None
    has_interval: bool = False


class Framework:
    """What the commands need to know of a framework, whatever its inputs are.

    Attributes:
        name: ``default_scope`` of its configs.
        task: what error messages call its configs, such as ``"pose"``.
        flags: the flags of :meth:`add_flags`, such as ``"--classes"``.
        show_hook: what ``test --show`` turns on, or None.
    """

    name: ClassVar[str]
    task: ClassVar[str]
    flags: ClassVar[tuple[str, ...]] = ()
    show_hook: ClassVar[ShowHook | None] = None

    def demo(self, cfg: Config) -> None:
        """Turn a config into its ``--demo``, in place: generated data, small inputs and a short schedule.

        Raises:
            UserError: there is no demo of this framework, which is the default, or of a model of this kind.
        """
        raise UserError(f"--demo: there is none for configs of {self.name} such as {cfg.filename}")

    def why_no_demo(self, cfg: Config) -> str | None:
        """Why a demo of this config would show nothing, to follow its name; None, the default, if not so."""
        return None

    def demo_metrics(self, model: BaseModel, cfg: Config) -> dict[str, float]:
        """Metrics of a trained demo beyond those of its config; none by default."""
        return {}

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags of ``infer`` and ``explore`` that are for this framework only."""

    def options(self, flags: Mapping[str, Any], source: list[Path] | VideoFrames, device: str) -> dict:
        """Read the values of :attr:`flags`.

        Args:
            flags: the flags that the user set, by name, such as ``{"--classes": Path("names.txt")}``.
            source: the image files, the video files, or the frames of one video.
            device: where models run.

        Returns:
            the ``options`` of :meth:`ImageFramework.predictor` or :meth:`VideoFramework.predictor`.

        Raises:
            UserError: the flags don't fit each other or the source, or a file can't be read.
        """
        return {}

    def dataset_meta(self, cfg: Config, saved: dict) -> dict:
        """What a model's outputs stand for; by default the classes and their colours.

        Args:
            cfg: the model's config.
            saved: the checkpoint's ``dataset_meta``, or an empty dict. The config's test set is read where
                it lacks something.

        Returns:
            the ``dataset_meta`` that the model gets: ``{"classes": names, "palette": colours}``.

        Raises:
            UserError: neither names the classes.
        """
        meta = saved if "classes" in saved else metainfo_of_test_set(cfg)
        if "classes" not in meta:
            raise UserError(
                f"neither the checkpoint nor the test set of {cfg.filename} names the classes: "
                "give the set metainfo=dict(classes=(...))"
            )
        palette = meta.get("palette")
        if isinstance(palette, (list, tuple)) and len(palette) < len(meta["classes"]):
            palette = None
        return {"classes": tuple(meta["classes"]), "palette": palette or "random"}

    def legend(self, dataset_meta: dict) -> dict:
        """What ``predictions.json`` says of a model's outputs; by default the names of the classes.

        Args:
            dataset_meta: as :meth:`dataset_meta` returns it.
        """
        return {"classes": dataset_meta["classes"]}

    def input_shape(self, cfg: Config) -> tuple[int, ...]:
        """The shape of one input of a config's test pipeline, without the batch; by default ``(3, h, w)``."""
        width, height = image_size(cfg)
        divisor = cfg.model.get("data_preprocessor", {}).get("pad_size_divisor", 1)
        return (3, *(-(-side // divisor) * divisor for side in (height, width)))

    def plain_forward(self, model: BaseModel) -> Callable[[Tensor], object]:
        """A function that runs everything in ``model`` that attends, once, on a preprocessed input.

        A prediction may run the model again on a flipped or cropped input, or split the batch.
        """
        return lambda inputs: model(inputs, None, mode="tensor")

    def forward_arguments(self, model: BaseModel, inputs: Tensor) -> tuple[Tensor, dict]:
        """What runs ``model`` up to the outputs of its heads: ``model(x, **kwargs)``.

        Args:
            model: a model of mmengine's ``BaseModel``.
            inputs: one input of :meth:`input_shape`, ``(1, ...)``.

        Returns:
            ``x`` and ``kwargs``.
        """
        return inputs, dict(mode="tensor", data_samples=None)


class ImageFramework(Framework, ABC):
    """A framework whose models see one image at a time.

    Attributes:
        noun: what its predictions find, such as ``"person"``.
        labels_images: whether they say what an image shows, and not where.
    """

    noun: ClassVar[str] = "object"
    labels_images: ClassVar[bool] = False

    def score_threshold(self, model: BaseModel) -> float:
        """The least score that is kept where the user sets none: 0.3 unless overridden."""
        return 0.3

    @abstractmethod
    def predictor(self, model: BaseModel, cfg: Config, score_thr: float, **options: Any) -> Predictor:
        """A function from an image to what is found in it, with the picture that shows it.

        Args:
            model: the model, in evaluation mode, with ``dataset_meta``.
            cfg: its config, for the test pipeline.
            score_thr: lower scores are left out.
            options: as :meth:`options` or :meth:`demo_options` returns them.

        Raises:
            UserError: a model of this kind can't be used, now or when predicting.
        """

    def demo_options(self, dataset: BaseDataset) -> dict:
        """The ``options`` of the predictor that draws a demo's images; none by default.

        Args:
            dataset: the demo's validation set.
        """
        return {}

    @abstractmethod
    def cam_target(self, model: BaseModel, prediction: Prediction, view: View) -> tuple[str, Target]:
        """The score that Grad-CAM explains, and its name.

        Args:
            model: the model.
            prediction: what the predictor found, at least one object.
            view: the one of its views that Grad-CAM looks at.

        Returns:
            the name of what has the score, and a function that runs the model on ``view.inputs`` and gives
            the score, a differentiable scalar.
        """

    def answer(self, model: BaseModel, inputs: Tensor) -> str:
        """What a model says of a whole image, in a few words; empty where that makes no sense.

        Args:
            model: the model.
            inputs: the network's, ``(1, C, h, w)``.
        """
        return ""


class VideoFramework(Framework, ABC):
    """A framework whose models see clips of a video."""

    @abstractmethod
    def predictor(self, model: BaseModel, cfg: Config, **options: Any) -> VideoPredictor:
        """What cuts a video into clips, scores them and draws the result.

        Args:
            model: the model, in evaluation mode, with ``dataset_meta``.
            cfg: its config, for the test pipeline.
            options: as :meth:`options` returns them.

        Raises:
            UserError: a model of this kind can't be used.
        """

    @abstractmethod
    def cam_target(self, model: BaseModel, view: ClipView, best: dict) -> tuple[str, Target]:
        """The score that Grad-CAM explains, and its name, as of :meth:`ImageFramework.cam_target`.

        Args:
            model: the model.
            view: the clip.
            best: the class that the predictor found in it, ``{"class", "label", "score"}``.
        """
