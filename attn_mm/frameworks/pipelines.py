"""Read the input size and the data set's metadata from the pipelines of a config."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope

from attn_mm.errors import ConfigError, UnsuitableImage, UserError
from attn_mm.utils.config import reason, walk

# A side of less than a pixel is left of such an image, if the other becomes one of a network's usual size.
_NARROW = 20


def pipeline_steps(cfg: Config) -> list[ConfigDict]:
    """The steps of a config's validation pipeline, or else of its test pipeline, nested ones included."""
    return [step for step in walk(_loader(cfg).get("dataset", {}).get("pipeline") or []) if "type" in step]


def image_size(cfg: Config) -> tuple[int, int]:
    """Width and height, in pixels, of the images that the last resizing step of the pipeline makes.

    Without such a step 32 for CIFAR, and 224 for anything else.
    """
    steps = pipeline_steps(cfg)
    sizes = [step[key] for step in steps for key in ("scale", "crop_size", "input_size") if step.get(key)]
    size = sizes[-1] if sizes else 32 if "CIFAR" in str(_loader(cfg)) else 224
    sides = [size] if isinstance(size, int) else list(size)[-2:]
    # -1 stands for a side that follows from the image's.
    sides = [side for side in sides if side > 0]
    return sides[0], sides[-1]


def test_pipeline(cfg: Config) -> list[dict]:
    """The steps of a config's test pipeline, copied; those of the data set inside a wrapper.

    Raises:
        ConfigError: it has none.
    """
    for node in walk(cfg.get("test_dataloader") or {}):
        if isinstance(node.get("pipeline"), (list, tuple)) and node["pipeline"]:
            return [dict(step) for step in node["pipeline"]]
    raise ConfigError(f"{cfg.filename} has no steps in test_dataloader.dataset.pipeline")


class Pipeline:
    """Steps of a config's test pipeline, built.

    Args:
        cfg: the config.
        steps: the steps.

    Raises:
        ConfigError: a step can't be built, or the steps make no input of the network.
    """

    def __init__(self, cfg: Config, steps: list[dict]) -> None:
        self._name = f"the test pipeline of {cfg.filename}"
        try:
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                self.compose = Compose(steps)
        except UserError:
            raise
        except Exception as error:
            # A constructor raises whatever it likes where the config's options don't fit it.
            raise ConfigError(f"{self._name} can't be built: {reason(error)}") from error

    def __call__(self, sample: dict) -> dict:
        data = self.compose(sample)
        if not isinstance(data, dict) or "inputs" not in data:
            raise ConfigError(f"{self._name} makes no inputs: its last step must be the framework's Pack...")
        return data


@contextlib.contextmanager
def processing(path: Path, image: np.ndarray) -> Iterator[None]:
    """In this context, OpenCV's refusal of a very narrow image is an UnsuitableImage with its name and size.

    A pipeline that keeps the aspect ratio makes no picture of it.
    """
    try:
        yield
    except (cv2.error, ZeroDivisionError) as error:
        height, width = image.shape[:2]
        if max(height, width) < _NARROW * min(height, width):
            raise
        text = f"{path}: the config can't process an image of {width} x {height} pixels"
        raise UnsuitableImage(text) from error


def metainfo_of_test_set(cfg: Config) -> dict:
    """The ``metainfo`` of a config's test set; none of its files is read.

    Raises:
        UserError: the config has no test set.
    """
    loader = cfg.get("test_dataloader")
    if not (isinstance(loader, dict) and isinstance(loader.get("dataset"), dict)):
        raise UserError(f"{cfg.filename} has no test_dataloader with a dataset")
    dataset = copy.deepcopy(loader["dataset"])
    dataset.update(lazy_init=True, pipeline=[])
    return DATASETS.build(dataset).metainfo


def _loader(cfg: Config) -> dict:
    loader = cfg.get("val_dataloader") or cfg.get("test_dataloader") or {}
    if not isinstance(loader, dict):
        raise UserError(
            f"{cfg.filename}: its val_dataloader or test_dataloader is {loader!r}, but not a dict"
        )
    return loader
