"""Read the true boxes of a test set's objects, and map them to what a network sees."""

from __future__ import annotations

import os.path as osp
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from attn_mm.datasets.coco_files import UNSET, read_boxed
from attn_mm.errors import UserError

Objects = dict[int, list[list[float]]]
"""The boxes of each class: x1, y1, x2, y2 in pixels of the image."""

_WORDNET_ID = re.compile(r"n\d{8}")

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_objects(dataset: BaseDataset, source: Path | None) -> list[Objects]:
    """Read the objects of each image of a test set, in order; an image without boxes gets an empty dict.

    An image keeps the boxes labelled with one of its classes. An image with a single class also keeps boxes
    labelled with a WordNet id, as in ImageNet, or not labelled. Boxes without area are ignored.

    Args:
        dataset: an mmpretrain data set whose images have a ``gt_label``.
        source: a folder of XML files in the format of ImageNet and Pascal VOC, one named after each image;
            or a file of COCO annotations, which names the images; or None for the ``bbox`` of each image
            in sets like ``attn_mm.CUB``. Images of the same name are matched by their folders.

    Raises:
        UserError: the boxes can't be read or can't be matched to the images, or no image has one.
    """
    classes = {name: label for label, name in enumerate(dataset.metainfo.get("classes") or ())}
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    boxed: list[list[tuple[str | None, list[float]]]]
    if source is None:
        boxed = [[(None, _own_box(info))] if "bbox" in info else [] for info in infos]
        advice = "give a folder of XML files or a file of COCO annotations with --boxes"
    else:
        boxed = _of_folder(source, infos) if source.is_dir() else _of_coco(source, infos, classes)
        advice = f"--boxes {source} has other images or classes"
    found = [_by_class(info, boxes, classes) for info, boxes in zip(infos, boxed)]
    if not any(found):
        raise UserError(f"no image of the test set has a box: {advice}")
    return found


def _by_class(info: dict, boxes: list[tuple[str | None, list[float]]], classes: dict[str, int]) -> Objects:
    objects: Objects = defaultdict(list)
    shown = set(np.atleast_1d(info["gt_label"]).tolist())
    alone = next(iter(shown)) if len(shown) == 1 and not np.ndim(info["gt_label"]) else None
    for name, box in boxes:
        label = alone if name is None or _WORDNET_ID.fullmatch(name) else classes.get(name)
        # COCO has a few boxes without width or height; nothing can overlap with them.
        if label is not None and label in shown and box[2] > box[0] and box[3] > box[1]:
            objects[label].append(box)
    return dict(objects)


def _own_box(info: dict) -> list[float]:
    try:
        box = [float(side) for side in info["bbox"]]
    except (TypeError, ValueError):
        box = []
    if len(box) != 4 or not np.isfinite(box).all():
        raise UserError(f"{info.get('img_path')}: its bbox is not x1, y1, x2, y2: {info['bbox']}")
    return box


def _matched(images: Iterable[Path], files: Iterable[Path]) -> dict[Path, Path]:
    """Match files to images by name; of several, the one whose folders agree most with the image's.

    Raises:
        UserError: two files match an image equally well.
    """
    named = defaultdict(list)
    for image in dict.fromkeys(images):
        named[image.name].append(image)
    belonging = defaultdict(list)
    for file in files:
        if file.name in named:
            belonging[_nearest(file, named[file.name])].append(file)
    return {image: _nearest(image, choices) for image, choices in belonging.items()}


def _nearest(path: Path, choices: list[Path]) -> Path:
    agreement = [len(osp.commonprefix([path.parts[::-1], choice.parts[::-1]])) for choice in choices]
    nearest = [choice for choice, parts in zip(choices, agreement) if parts == max(agreement)]
    if len(nearest) > 1:
        raise UserError(
            f"--boxes: {path} may go with {nearest[0]} or with {nearest[1]}: put the files or file_names "
            "into folders named like the images'"
        )
    return nearest[0]


def _of_folder(folder: Path, infos: list[dict]) -> list[list[tuple[str | None, list[float]]]]:
    files = {path.with_suffix(""): path for path in sorted(folder.rglob("*.xml"))}
    if not files:
        raise UserError(f"--boxes {folder} contains no XML file")
    images = [Path(info["img_path"]).with_suffix("") if "img_path" in info else None for info in infos]
    matched = _matched(filter(None, images), files)
    return [_of_xml(files[matched[image]]) if image in matched else [] for image in images]


def _of_xml(path: Path) -> list[tuple[str | None, list[float]]]:
    try:
        # Pixels count from 1 there, and the last one is a part of the box.
        return [
            (item.findtext("name"), [*(side - 1 for side in sides[:2]), *sides[2:]])
            for item in ET.parse(path).iterfind("object")
            for sides in [[float(item.findtext(f"bndbox/{key}", "")) for key in _SIDES]]
        ]
    except (ET.ParseError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a box annotation in ImageNet's format: {error}") from error


def _of_coco(
    path: Path, infos: list[dict], classes: dict[str, int]
) -> list[list[tuple[str | None, list[float]]]]:
    content = read_boxed(str(path))
    names = {category.id: category.name for category in content.categories}
    if not classes.keys() & set(names.values()):
        raise UserError(
            f"--boxes {path}: none of its categories, such as {next(iter(names.values()), None)!r}, is one "
            f"of the test set's classes, such as {next(iter(classes), None)!r}"
        )
    files = {image.id: Path(image.file_name) for image in content.images}
    boxed: dict[Path | None, list[tuple[str | None, list[float]]]] = defaultdict(list)
    for item in content.annotations:
        if item.bbox is not UNSET and item.iscrowd in (UNSET, 0) and item.category_id in names:
            x, y, width, height = item.bbox
            boxed[files.get(item.image_id)].append((names[item.category_id], [x, y, x + width, y + height]))
    images = [Path(info["img_path"]) if "img_path" in info else None for info in infos]
    matched = _matched(filter(None, images), dict.fromkeys(files.values()))
    return [boxed[matched[image]] if image in matched else [] for image in images]


@dataclass
class PlacedView:
    """The part of an image that a test pipeline passes on, and its position in the image.

    Attributes:
        data: the packed sample.
        picture: the pixels that the network sees, (h, w, 3) uint8 BGR.
        zoom: enlargement of the image in x and y.
        corner: x and y of the view's top left corner in the enlarged image, in pixels.
    """

    data: dict
    picture: np.ndarray
    zoom: tuple[float, float]
    corner: tuple[float, float]

    def to_image(self, box: Sequence[float]) -> list[float]:
        """Map a box, x1, y1, x2, y2, from the view to the image."""
        return [(side + offset) / zoom for side, offset, zoom in zip(box, self.corner * 2, self.zoom * 2)]

    def from_image(self, box: Sequence[float]) -> list[float]:
        """Map a box, x1, y1, x2, y2, from the image to the view; it may reach beyond the view."""
        return [side * zoom - offset for side, offset, zoom in zip(box, self.corner * 2, self.zoom * 2)]


def place_view(dataset: BaseDataset, index: int) -> PlacedView:
    """Run the pipeline on one image of a data set.

    Raises:
        UserError: a step changes the image's shape other than by resizing or centre cropping.
    """
    data = dataset.get_data_info(index)
    zoom, corner = np.ones(2), np.zeros(2)
    picture, before = None, None
    for step in dataset.pipeline.transforms:
        data = step(data)
        if "img" not in data:
            continue
        picture = data["img"]
        size = np.array(picture.shape[1::-1], float)
        if before is not None and (size != before).any():
            kind = type(step).__name__
            if kind == "CenterCrop":
                # As mmcv rounds it.
                corner = corner + np.maximum(0, np.round((before - size) / 2))
            elif kind in ("Resize", "ResizeEdge"):
                zoom, corner = zoom * size / before, corner * size / before
            else:
                raise UserError(
                    f"the test pipeline's {kind} changes an image's shape: boxes can be mapped only through "
                    "Resize, ResizeEdge and CenterCrop"
                )
        before = size
    (zoom_x, zoom_y), (left, top) = zoom, corner
    return PlacedView(data, np.ascontiguousarray(picture), (zoom_x, zoom_y), (left, top))
