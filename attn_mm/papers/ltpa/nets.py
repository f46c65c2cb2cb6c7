"""The trained classifiers that an analysis compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmpretrain.demo import configured_size
from attn_mm.frameworks.mmpretrain.predict import is_multilabel
from attn_mm.papers.classifiers import network_names
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.resumable import identity


@dataclass
class Net:
    """A classifier of mmpretrain, in evaluation mode.

    Attributes:
        name: what it is called in tables, pictures and file names.
        cfg: its config.
        checkpoint: its checkpoint's file.
        model: with ``dataset_meta``.
        size: the side of the square images that it is shown where an analysis brings its own.
    """

    name: str
    cfg: Config
    checkpoint: str
    model: BaseModel
    size: int

    @property
    def about(self) -> dict[str, str]:
        """What the results say of it."""
        return {"name": self.name, "config": self.cfg.filename, "checkpoint": self.checkpoint}

    @property
    def identity(self) -> list:
        """What tells it from another of its name."""
        return [identity(self.cfg.filename), identity(self.checkpoint)]

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels ``(N, 3, H, W)``, BGR of 0..255, as the config's normalisation hands them to the network."""
        return self.model.data_preprocessor({"inputs": pixels})["inputs"]

    def scores(self, pixels: Tensor) -> Tensor:
        """Pixels ``(N, 3, H, W)``, BGR of 0..255 -> scores ``(N, classes)``, differentiable."""
        return self.model(self.inputs(pixels), mode="tensor")

    def look(self, path: Path) -> tuple[np.ndarray, Tensor]:
        """An image file, uint8 BGR, and what the network is shown of it, pixels ``(1, 3, size, size)``."""
        image = read_image(path)
        return image, to_pixels([resized(image, self.size)]).to(self.device)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """An image made square; pixels are averaged where it shrinks, interpolated where it grows."""
    method = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """Images (H, W, 3) of one size as ``(N, 3, H, W)``, float32."""
    return torch.from_numpy(np.stack(images)).movedim(-1, 1).float()


def open_nets(
    nets: Sequence[str],
    device: str,
    names: Sequence[str] | None = None,
    size: int | None = None,
    options: dict | None = None,
) -> list[Net]:
    """The classifiers that a command line names.

    Args:
        nets: config, checkpoint, config, checkpoint, and so on.
        device: where they run.
        names: of each, as of :func:`network_names`.
        size: see :class:`Net`; None: of the config's inputs.
        options: of ``--cfg-options``, merged into every config.

    Raises:
        UserError: the list is empty or odd, the names are not one for each net, or a net is none that
            tells an image's class.
    """
    if not nets or len(nets) % 2:
        raise UserError("name CONFIG CHECKPOINT, once or several times, or use --demo")
    pairs = list(zip(nets[::2], nets[1::2]))
    for _, checkpoint in pairs:
        check_checkpoint(checkpoint)
    names = network_names(pairs, names)
    return [_open(name, *pair, device, size, options) for name, pair in zip(names, pairs)]


def _open(
    name: str, config: str, checkpoint: str, device: str, size: int | None, options: dict | None
) -> Net:
    cfg = load_config(config, options)
    if cfg.get("default_scope") != "mmpretrain":
        raise UserError(
            f"{config} is for {cfg.get('default_scope')}: a classifier's, of mmpretrain, is needed"
        )
    model = load_model(cfg, checkpoint, device)
    from mmpretrain.models import ImageClassifier

    if not isinstance(model, ImageClassifier) or is_multilabel(model):
        kind = type(model).__name__ + (f" with a {type(model.head).__name__}" if is_multilabel(model) else "")
        raise UserError(f"{config}: a {kind} doesn't tell an image's one class: an ImageClassifier is needed")
    return Net(name, cfg, checkpoint, model, size or configured_size(cfg))
