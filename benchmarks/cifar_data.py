"""CIFAR-10 in memory: decoded once, kept in a file, and augmented in batches on the device."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from attn_mm.datasets.checks.unreadable import name_unreadable
from attn_mm.errors import UserError
from attn_mm.utils.files import replacing, writing
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import identity

SIDE, PADDING = 32, 4


@dataclass(frozen=True)
class Split:
    """Images and labels.

    Attributes:
        images: ``(N, 32, 32, 3)`` bytes, in the order of colours that the config's loader reads, BGR.
        labels: ``(N,)``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def spread(self, count: int) -> Split:
        """Choose ``count`` samples at equal distances: a set sorted by class keeps all of its classes."""
        chosen = np.arange(count) * len(self) // count
        return Split(self.images[chosen], self.labels[chosen])

    def digest(self) -> str:
        """What tells these samples from others."""
        found = hashlib.sha256(np.ascontiguousarray(self.images))
        found.update(np.ascontiguousarray(self.labels))
        return found.hexdigest()[:16]


def read_cifar(cfg: Config, cache: Path) -> tuple[Split, Split]:
    """Read the training and the test images of a config, whichever layout its data set has.

    Args:
        cfg: the config; its pipelines must begin with the step that loads an image.
        cache: file for the decoded images. It is replaced if it is of other images.

    Returns:
        the training and the test images.

    Raises:
        UserError: the data is missing, an image is unreadable or has another size, or ``cache`` can't be
            written.
    """
    sets = [_build(loader.dataset) for loader in (cfg.train_dataloader, cfg.val_dataloader)]
    source = _fingerprint(sets)
    held = _read_cache(cache, source)
    if held is None:
        with progress_bar() as progress:
            task = progress.add_task("decoding images", total=sum(map(len, sets)))
            held = [_decode(one, lambda: progress.advance(task)) for one in sets]
        arrays = {f"images{i}": split.images for i, split in enumerate(held)}
        arrays.update((f"labels{i}", split.labels) for i, split in enumerate(held))
        with writing(cache), replacing(cache) as file:
            np.savez(file, source=np.array(source), **arrays)
    return held[0], held[1]


def _build(config: dict):
    # The other steps of the pipeline are done in batches.
    config = dict(config, pipeline=config["pipeline"][:1])
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        built = DATASETS.build(config)
    name_unreadable(built.pipeline.transforms)
    return built


def _fingerprint(sets: list) -> str:
    """What tells the files of these sets, or the images that they have in memory, from others."""
    found = hashlib.sha256()
    for one in sets:
        for info in map(one.get_data_info, range(len(one))):
            own = info["img"].tobytes() if "img" in info else repr(identity(info["img_path"])).encode()
            found.update(own + bytes([info["gt_label"]]))
    return found.hexdigest()


def _read_cache(cache: Path, source: str) -> list[Split] | None:
    try:
        with np.load(cache, allow_pickle=False) as file:
            if file["source"] == source:
                return [Split(file[f"images{i}"], file[f"labels{i}"]) for i in range(2)]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        # It is missing, or can't be read and is replaced.
        pass
    return None


def _decode(dataset, progress) -> Split:
    images = np.empty((len(dataset), SIDE, SIDE, 3), np.uint8)
    labels = np.empty(len(dataset), np.int64)
    for i in range(len(dataset)):
        sample = dataset.prepare_data(i)
        height, width = sample["img"].shape[:2]
        if (height, width) != (SIDE, SIDE):
            where = sample.get("img_path", f"image {i}")
            raise UserError(f"{where} has {width} x {height} pixels; CIFAR-10's images have {SIDE} x {SIDE}")
        images[i], labels[i] = sample["img"], sample["gt_label"]
        progress()
    return Split(images, labels)


class Batches:
    """Images on a device, cropped, flipped and normalised a batch at a time.

    Args:
        split: the images.
        preprocessor: the config's ``data_preprocessor``: ``mean``, ``std`` and ``to_rgb``.
        device: where the images are.
        channels_last: layout of the batches.

    Attributes:
        labels: ``(N,)``.
    """

    def __init__(
        self, split: Split, preprocessor: dict, device: torch.device, channels_last: bool = False
    ) -> None:
        images = torch.from_numpy(split.images).to(device)
        if preprocessor["to_rgb"]:
            images = images.flip(-1)
        self._padded = F.pad(images, (0, 0, PADDING, PADDING, PADDING, PADDING))
        self._places = torch.arange(SIDE, device=device)
        self._mean, self._std = (
            torch.tensor(preprocessor[name], device=device).view(3, 1, 1) for name in ("mean", "std")
        )
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.labels = torch.from_numpy(split.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def augmented(self, index: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
        """Crop images from their zero-padded selves, and flip some of them.

        Nothing here waits for the device, so that a CUDA graph can contain it.

        Args:
            index: which images, ``(B,)``.
            offsets: first row and column of each crop in the padded image, 0 to 8, ``(B, 2)``.
            flips: which crops are mirrored, ``(B,)``.

        Returns:
            ``(B, 3, 32, 32)``.
        """
        rows = offsets[:, :1] + self._places
        columns = offsets[:, 1:] + torch.where(flips[:, None], SIDE - 1 - self._places, self._places)
        return self._normalised(self._padded[index[:, None, None], rows[:, :, None], columns[:, None, :]])

    def whole(self, start: int, stop: int) -> Tensor:
        """The images from ``start`` to ``stop`` as they are, ``(B, 3, 32, 32)``."""
        inner = slice(PADDING, PADDING + SIDE)
        return self._normalised(self._padded[start:stop, inner, inner])

    def _normalised(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()
        return ((x - self._mean) / self._std).contiguous(memory_format=self._layout)
