"""Check the label maps of semantic segmentation: their files, sizes and values."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image, UnidentifiedImageError
from torch import nn

from attn_mm.errors import UnsuitableLabelMap
from attn_mm.utils.sampling import spread

# Number of a set's label maps that are read before a run; each is checked when it is loaded.
_SAMPLES = 64
_LOADER = "mmseg.datasets.transforms.loading.LoadAnnotations"
# Of one channel with whole numbers that fit in a byte.
_MODES = ("1", "L", "P")


class LoadLabelMap:
    """Wraps mmsegmentation's step that loads a label map, so that every map is checked.

    mmsegmentation casts values to a byte. Its metrics leave out values beyond the classes, and its losses
    crash.

    Args:
        load: the step.
        classes: number of classes; None: unknown.
        ignored: the value of pixels that are ignored.

    Raises:
        UnsuitableLabelMap: when called, if a map is missing, can't be read, or doesn't fit its image or the
            classes.
    """

    def __init__(self, load: Any, classes: int | None, ignored: int | None) -> None:
        self.load, self.classes, self.ignored = load, classes, ignored

    def __call__(self, results: dict) -> dict:
        path = results["seg_map_path"]
        if "://" not in path:
            self._check_file(path)
        try:
            loaded = self.load(results)
        except (OSError, ValueError, SyntaxError) as error:
            raise UnsuitableLabelMap(
                f"{path} can't be read as a label map: it is damaged or of another format"
            ) from error
        self._check_map(path, loaded["gt_seg_map"], results.get("ori_shape"))
        return loaded

    def _check_file(self, path: str) -> None:
        if not osp.isfile(path):
            raise UnsuitableLabelMap(
                f"{path}: no such label map; name its folder and suffix with "
                "data_prefix=dict(seg_map_path=...) and seg_map_suffix"
            )
        if getattr(self.load, "imdecode_backend", "pillow") != "pillow":
            return
        try:
            with Image.open(path) as image:
                mode, extremes = image.mode, image.getextrema() if image.mode.startswith("I") else (0, 0)
        except (OSError, ValueError, UnidentifiedImageError, SyntaxError):
            return
        if mode.startswith("I") and extremes[1] > 255:
            raise UnsuitableLabelMap(
                f"{path} has values up to {extremes[1]:.0f}, and mmsegmentation reads 0 to 255: renumber them"
            )
        if mode not in _MODES and not mode.startswith("I"):
            raise UnsuitableLabelMap(
                f"{path} is a picture in colours ({mode}): a label map has one channel with the number of "
                "each pixel's class; convert it"
            )

    def _check_map(self, path: str, labels: np.ndarray, image: tuple[int, ...] | None) -> None:
        if image is not None and labels.shape[:2] != tuple(image[:2]):
            sizes = "{} x {} pixels, and its image {} x {}".format(*labels.shape[1::-1], *image[1::-1])
            raise UnsuitableLabelMap(f"{path} has {sizes}: they must be of one size, and not turned by EXIF")
        if self.classes is None:
            return
        values, counts = np.unique(labels, return_counts=True)
        wrong = [place for place, v in enumerate(values) if v >= self.classes and v != self.ignored]
        if wrong:
            ignored = f" and {self.ignored} for ignored pixels" if self.ignored is not None else ""
            raise UnsuitableLabelMap(
                f"{path} has the value {values[wrong[0]]} ({counts[wrong[0]]} pixels), but {self.classes} "
                f"classes are 0 to {self.classes - 1}{ignored}: correct the map or the classes"
            )

    def __repr__(self) -> str:
        return repr(self.load)


def watch_label_maps(dataset: BaseDataset, model: nn.Module | None = None) -> None:
    """Check a sample of a segmentation set's label maps now, and every one when it is loaded.

    Args:
        dataset: any set; of one without label maps nothing is checked.
        model: the network, for the value of pixels that its decode head ignores.

    Raises:
        UnsuitableLabelMap: a map is missing, can't be read, or doesn't fit its image or the classes.
    """
    steps = getattr(getattr(dataset, "pipeline", None), "transforms", [])
    loaders = [place for place, step in enumerate(steps) if _is_loader(step)]
    if not loaders:
        return
    classes = (dataset.metainfo or {}).get("classes")
    ignored = getattr(dataset, "ignore_index", 255)
    if not dataset.test_mode:
        ignored = _ignored_by(model, ignored)
    for place in loaders:
        steps[place] = LoadLabelMap(steps[place], len(classes) if classes else None, ignored)
    _check_sample(dataset, steps[loaders[0]])


def _is_loader(step: Callable) -> bool:
    return any(f"{base.__module__}.{base.__name__}" == _LOADER for base in type(step).__mro__)


def _ignored_by(model: nn.Module | None, otherwise: int | None) -> int | None:
    head: Any = getattr(getattr(model, "module", model), "decode_head", None)
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    return getattr(head, "ignore_index", otherwise)


def _check_sample(dataset: BaseDataset, load: LoadLabelMap) -> None:
    for index in spread(range(len(dataset)), min(_SAMPLES, len(dataset))):
        info = dict(BaseDataset.get_data_info(dataset, index))
        if "seg_map_path" in info and osp.isfile(info.get("img_path", "")):
            load({**info, "seg_fields": [], "ori_shape": _size_of(info["img_path"])})


def _size_of(path: str) -> tuple[int, int] | None:
    """The height and width of an image as it is loaded; None where its file can't tell."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (width, height) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (height, width)
    except (OSError, ValueError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return None
