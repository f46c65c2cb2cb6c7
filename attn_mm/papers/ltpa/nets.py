"""Load the trained classifiers that an analysis compares."""

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
    """An mmpretrain classifier in evaluation mode.

    Attributes:
        name: name in tables, pictures and file names.
        cfg: the config.
        checkpoint: file of the checkpoint.
        model: the model, with ``dataset_meta``.
        size: side in pixels of its square inputs, if an analysis uses images from outside the config.
    """

    name: str
    cfg: Config
    checkpoint: str
    model: BaseModel
    size: int

    @property
    def about(self) -> dict[str, str]:
        """The description for the results."""
        return {"name": self.name, "config": self.cfg.filename, "checkpoint": self.checkpoint}

    @property
    def identity(self) -> list:
        """What distinguishes it from another net of the same name."""
        return [identity(self.cfg.filename), identity(self.checkpoint)]

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next(self.model.parameters()).device

    def inputs(self, pixels: Tensor) -> Tensor:
        """Apply the config's normalisation to pixels ``(N, 3, H, W)``, BGR, 0 to 255."""
        return self.model.data_preprocessor({"inputs": pixels})["inputs"]

    def scores(self, pixels: Tensor) -> Tensor:
        """Compute scores ``(N, classes)`` from pixels ``(N, 3, H, W)``, BGR, 0 to 255; differentiable."""
        return self.model(self.inputs(pixels), mode="tensor")

    def look(self, path: Path) -> tuple[np.ndarray, Tensor]:
        """Read an image file; returns it, uint8 BGR, and the network's pixels ``(1, 3, size, size)``."""
        image = read_image(path)
        return image, to_pixels([resized(image, self.size)]).to(self.device)


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """Resize an image to a square; averages pixels to shrink it, interpolates to enlarge it."""
    method = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


def to_pixels(images: Sequence[np.ndarray]) -> Tensor:
    """Stack images (H, W, 3) of one size to ``(N, 3, H, W)``, float32."""
    return torch.from_numpy(np.stack(images)).movedim(-1, 1).float()


def open_nets(
    nets: Sequence[str],
    device: str,
    names: Sequence[str] | None = None,
    size: int | None = None,
    options: dict | None = None,
) -> list[Net]:
    """Load the classifiers of a command line.

    Args:
        nets: config, checkpoint, config, checkpoint, and so on.
        device: device to run on.
        names: names of the nets, see :func:`network_names`.
        size: see :class:`Net`; None: the config's input size.
        options: ``--cfg-options``, merged into every config.

    Raises:
        UserError: the list is empty or has an odd length, the number of names is wrong, or a net isn't a
            single-label classifier.
    """
    if not nets or len(nets) % 2:
        raise UserError("give CONFIG CHECKPOINT for each network, or --demo")
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
        raise UserError(f"{config} is for {cfg.get('default_scope')}; use an mmpretrain classifier")
    model = load_model(cfg, checkpoint, device)
    from mmpretrain.models import ImageClassifier

    if not isinstance(model, ImageClassifier) or is_multilabel(model):
        kind = type(model).__name__ + (f" with a {type(model.head).__name__}" if is_multilabel(model) else "")
        raise UserError(f"{config}: a {kind} doesn't predict a single class; use an ImageClassifier")
    return Net(name, cfg, checkpoint, model, size or configured_size(cfg))
