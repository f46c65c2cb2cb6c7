"""Check that image files have the size that their annotations say, and 8 bits per channel."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable, Mapping

from mmengine.dataset import BaseDataset
from PIL import Image, UnidentifiedImageError

from attn_mm.datasets.media import check_depth
from attn_mm.errors import UnsuitableImage, UserError
from attn_mm.utils.sampling import spread

Sizes = Mapping[int | str, tuple[float, float]]
"""The annotated width and height of image ids, for data sets whose samples don't have them."""

# Number of files of a set whose headers are read before a run; each file is checked when it is loaded.
_SAMPLES = 300
_ORIENTATION = 0x0112


def annotated_size(sample: Mapping, sizes: Sizes) -> tuple[float, float] | None:
    """The width and height that annotations give the image of a sample."""
    if "width" in sample and "height" in sample:
        return sample["width"], sample["height"]
    image = sample.get("img_id")
    return sizes.get(image) if isinstance(image, (int, str)) else None


def check_size(path: str, shape: tuple[int, ...], expected: tuple[float, float] | None) -> None:
    """Check the size of a loaded image.

    Args:
        path: the image's file, for the message.
        shape: height and width in pixels, as loaded.
        expected: annotated width and height, or None.

    Raises:
        UnsuitableImage: they differ.
    """
    if expected is None:
        return
    size = (shape[1], shape[0])
    if size == tuple(expected):
        return
    sizes = "annotated as {:g} x {:g} pixels and loads as {} x {}".format(*expected, *size)
    if size == tuple(expected)[::-1] and _is_turned(path):
        raise UnsuitableImage(
            f"{path} is {sizes}, turned by EXIF: set "
            "color_type='color_ignore_orientation' in LoadImageFromFile"
        )
    raise UnsuitableImage(f"{path} is {sizes}: correct the annotations")


def _is_turned(path: str) -> bool:
    try:
        with Image.open(path) as image:
            return image.getexif().get(_ORIENTATION, 1) != 1
    except (OSError, ValueError, UnidentifiedImageError, SyntaxError):
        return False


def check_images(dataset: BaseDataset, load: Callable[[dict], object], sizes: Sizes) -> None:
    """Check a sample of a set's images before a run.

    Args:
        dataset: the set.
        load: its step that loads an image, which checks what :func:`check_size` does.
        sizes: annotated sizes by image id.

    Raises:
        UserError: an image has another size than its annotations, or 16 bits per channel.
    """
    for index in spread(range(len(dataset)), min(_SAMPLES, len(dataset))):
        info = BaseDataset.get_data_info(dataset, index)
        # A set such as SVHN has its images in memory.
        path = info.get("img_path", "")
        if not osp.isfile(path) or not _is_suspect(path, annotated_size(info, sizes)):
            continue
        try:
            load(dict(info))
        except UnsuitableImage as error:
            raise UserError(str(error)) from error


def _is_suspect(path: str, expected: tuple[float, float] | None) -> bool:
    try:
        check_depth(path)
        with Image.open(path) as image:
            return expected is not None and (image.size != tuple(expected) or _is_turned(path))
    except UnsuitableImage:
        return True
    except (OSError, ValueError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        # Files that can't be read are reported when they are loaded.
        return False
