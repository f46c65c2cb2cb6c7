"""STL-10: images of 96x96 pixels of ten classes, nine of which are CIFAR-10's.

Coates, Lee & Ng, An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS 2011
(https://cs.stanford.edu/~acoates/stl10).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
from mmpretrain.datasets.base_dataset import BaseDataset
from mmpretrain.datasets.categories import CIFAR10_CATEGORIES

from attn_mm.datasets.folders import check_folders, labelled_files
from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
SIDE = 96
FOLDER = "stl10_binary"
_OTHER_NAMES = {"car": "automobile"}


@DATASETS.register_module()
class STL10(BaseDataset):
    """The labelled images of STL-10: 5,000 for training and 8,000 for tests.

    ``data_root`` contains the archive's folder ``stl10_binary``, that folder's files, or folders ``train``
    and ``test`` with one folder of images per class. A sample has its image as ``img``, uint8 BGR, or its
    file name as ``img_path``; ``attn_mm.LoadImage`` accepts both.

    Args:
        data_root: the folder.
        split: ``'train'`` or ``'test'``.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: if neither layout is found, a file is damaged, or the folders don't match the classes.
        ValueError: if ``split`` is unknown.
    """

    METAINFO: ClassVar[dict] = {"classes": CLASSES}

    def __init__(self, data_root: str, split: Literal["train", "test"] = "train", **dataset) -> None:
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        self.split = split
        super().__init__(ann_file="", data_root=data_root, **dataset)

    def load_data_list(self) -> list[dict]:
        folder = Path(self.data_root, self.split)
        if folder.is_dir():
            check_folders(folder, CLASSES)
            return labelled_files(folder, {name: label for label, name in enumerate(CLASSES)})
        return list(_read_binary(Path(self.data_root), self.split))


def _read_binary(root: Path, split: str) -> Iterator[dict]:
    """Read ``{split}_X.bin`` and ``{split}_y.bin``."""
    folder = next((path for path in (root / FOLDER, root) if (path / f"{split}_X.bin").is_file()), None)
    if folder is None:
        raise UserError(
            f"{root.absolute()} contains neither {FOLDER}/{split}_X.bin nor a folder {split} with one folder "
            "per class: see docs/data.md"
        )
    images, labels = folder / f"{split}_X.bin", folder / f"{split}_y.bin"
    if not labels.is_file():
        raise UserError(f"{labels} is missing: it has the labels of {images.name}")
    classes = np.fromfile(labels, np.uint8)
    if images.stat().st_size != len(classes) * 3 * SIDE**2 or not len(classes):
        raise UserError(f"{images} is damaged: it isn't {len(classes)} images of 3x{SIDE}x{SIDE} bytes")
    if classes.min() < 1 or classes.max() > len(CLASSES):
        raise UserError(f"{labels} is damaged: its labels must be from 1 to {len(CLASSES)}")
    # Each channel is stored column by column, red first.
    pixels = np.memmap(images, np.uint8, "r", shape=(len(classes), 3, SIDE, SIDE)).transpose(0, 3, 2, 1)
    for index, label in enumerate(classes):
        yield {"img": np.array(pixels[index, ..., ::-1]), "gt_label": int(label) - 1}


@DATASETS.register_module()
class STL10ForCIFAR10(STL10):
    """STL-10's images for a network that was trained on CIFAR-10: its classes, and 32x32 pixels.

    STL-10 has monkeys instead of frogs, "car" instead of "automobile", and another order.

    Args:
        data_root: see :class:`STL10`.
        split: see :class:`STL10`.
        match: ``'name'`` matches the classes by name and leaves out the monkeys, which no output of the
            network stands for: 4,500 and 7,200 images. ``'position'`` keeps all images and takes STL-10's
            label numbers as CIFAR-10's, so four classes of ten count as others: birds as automobiles,
            cars as birds, horses as frogs and monkeys as horses.
        size: side of the images in pixels; they are averaged down from 96.
        dataset: options of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: see :class:`STL10`.
        ValueError: if ``split`` or ``match`` is unknown, or ``size`` isn't positive.
    """

    METAINFO: ClassVar[dict] = {"classes": CIFAR10_CATEGORIES}

    def __init__(
        self,
        data_root: str,
        split: Literal["train", "test"] = "test",
        match: Literal["name", "position"] = "name",
        size: int = 32,
        **dataset,
    ) -> None:
        if match not in ("name", "position"):
            raise ValueError(f"match must be 'name' or 'position', got {match!r}")
        if type(size) is not int or size < 1:
            raise ValueError(f"size must be a positive whole number, got {size!r}")
        self.match, self.size = match, size
        super().__init__(data_root, split, **dataset)

    def load_data_list(self) -> list[dict]:
        return [
            {"img": self._small(info), "gt_label": label}
            for info in super().load_data_list()
            if (label := self._label(info["gt_label"])) is not None
        ]

    def _label(self, label: int) -> int | None:
        if self.match == "position":
            return label
        name = _OTHER_NAMES.get(CLASSES[label], CLASSES[label])
        return CIFAR10_CATEGORIES.index(name) if name in CIFAR10_CATEGORIES else None

    def _small(self, info: dict) -> np.ndarray:
        image = info["img"] if "img" in info else read_image(Path(info["img_path"]))
        return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_AREA)
