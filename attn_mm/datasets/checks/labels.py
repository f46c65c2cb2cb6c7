"""Checks of labels that would otherwise stop a run halfway."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from torch import nn

from attn_mm.datasets.checks.annotations import (
    Reader,
    check_coco_boxes,
    check_coco_persons,
    check_file_names,
)
from attn_mm.datasets.checks.ava_lists import check_ava_list
from attn_mm.datasets.checks.voc import check_voc
from attn_mm.datasets.coco_files import Coco, CocoPersons, read_persons
from attn_mm.errors import UserError

_VOC = "mmdet.datasets.xml_style.XMLDataset"
_AVA = "mmaction.datasets.ava_dataset.AVADataset"
_COCO_BOXES = "mmdet.datasets.coco.CocoDataset"
# The subclasses of CocoDataset that load their lists themselves.
_READERS = {
    _COCO_BOXES: Reader(),
    "mmdet.datasets.objects365.Objects365V1Dataset": Reader(by_id=True),
    "mmdet.datasets.objects365.Objects365V2Dataset": Reader(),
    "mmdet.datasets.lvis.LVISV05Dataset": Reader(all_numbered=True),
    "mmdet.datasets.lvis.LVISV1Dataset": Reader(all_numbered=True, urls=True),
}
_COCO_PERSONS = "mmpose.datasets.datasets.base.base_coco_style_dataset.BaseCocoStyleDataset"


def check_files(dataset: BaseDataset, boxless: bool = False) -> None:
    """Check the annotation files of a data set, which need not be loaded yet.

    Args:
        dataset: the data set.
        boxless: whether it may lack boxes to learn from.

    Raises:
        UserError: the files can't be used, or have other classes or keypoints than the config.
    """
    if "://" in (dataset.ann_file or ""):
        return
    meta = dataset.metainfo
    if _reads_like(dataset, _VOC, "load_data_list"):
        check_voc(
            dataset.ann_file,
            annotations=osp.join(dataset.sub_data_root, dataset.ann_subdir),
            images=osp.join(dataset.sub_data_root, dataset.img_subdir),
            classes=meta["classes"],
            test_mode=dataset.test_mode,
        )
        return
    if _reads_like(dataset, _AVA, "load_data_list"):
        # The first of custom_classes is mmaction's own, for no action.
        custom = dataset.custom_classes and dataset.custom_classes[1:]
        check_ava_list(dataset.ann_file, dataset.num_classes, custom)
        return
    content: Coco | CocoPersons
    reader = _coco_reader(dataset)
    if reader:
        masks = _loads_masks(dataset)
        content = check_coco_boxes(
            dataset.ann_file, meta["classes"], masks=masks, boxless=boxless, reader=reader
        )
    elif _reads_like(dataset, _COCO_PERSONS, "_load_annotations"):
        content = check_coco_persons(
            dataset.ann_file, keypoint_names(meta), personless=bool(dataset.bbox_file)
        )
    else:
        return
    check_file_names(dataset.ann_file, content.images, (dataset.data_prefix or {}).get("img") or "")


def _coco_reader(dataset: BaseDataset) -> Reader | None:
    """How a detection set of mmdet reads COCO annotations; None if it isn't known to."""
    if not _reads_like(dataset, _COCO_BOXES):
        return None
    bases, load = _bases(dataset), type(dataset).load_data_list
    known = (name for name in _READERS if name in bases and bases[name].load_data_list is load)
    return _READERS.get(next(known, ""))


def image_sizes(dataset: BaseDataset) -> dict[int | str, tuple[float, float]]:
    """The width and height that annotations give each image id of a keypoint set; empty for other sets."""
    if "://" in (dataset.ann_file or "") or not _reads_like(dataset, _COCO_PERSONS, "_load_annotations"):
        return {}
    return {image.id: (image.width, image.height) for image in read_persons(dataset.ann_file).images}


def keypoint_names(meta: dict) -> list[str]:
    """The names of the keypoints of a data set's metainfo, in order."""
    return [meta["keypoint_id2name"][index] for index in range(meta["num_keypoints"])]


def check_labels(dataset: BaseDataset) -> None:
    """Check the labels of a built data set.

    Raises:
        UserError: if a label would crash the pipeline, the network or the loss.
    """
    check = _check_of(dataset)
    if check is None:
        return
    for index in range(len(dataset)):
        # The base class's method, because mmpose's is slow.
        check(dataset, BaseDataset.get_data_info(dataset, index))


def check_class_labels(model: nn.Module, dataset: BaseDataset) -> None:
    """Check the labels of a classifier's data set by :func:`check_image_labels`; others pass.

    One below 0 or beyond the classes always counts as an error in a test, and ends a training halfway.
    """
    if hasattr(dataset, "folder_to_idx"):
        # The labels are the numbers of its folders: ImageNet's million images need no reading.
        return
    number = getattr(getattr(getattr(model, "module", model), "head", None), "num_classes", None)
    if isinstance(number, int) and len(dataset):
        label = BaseDataset.get_data_info(dataset, 0).get("gt_label")
        # Of several tasks it is a dict, of mixed images shares.
        if label is not None and (not np.size(label) or np.asarray(label).dtype.kind == "i"):
            check_image_labels(dataset, number)


def check_image_labels(dataset: BaseDataset, number: int) -> None:
    """Check that each image of a classification set has a label below ``number``.

    Raises:
        UserError: if an image doesn't.
    """
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if type(info.get("gt_label")) is int and 0 <= info["gt_label"] < number:
            continue
        image = info.get("img_path", f"image {index} of {type(dataset).__name__}")
        if info.get("gt_label") is None:
            raise UserError(f"{image} has no label: the set needs a class for each image")
        for label in np.ravel(info["gt_label"]).tolist():
            if label not in range(number):
                raise UserError(
                    f"{image} has the label {label}, but the labels of {number} classes are 0 to {number - 1}"
                )


def _check_of(dataset: BaseDataset) -> Callable[[BaseDataset, dict], None] | None:
    if _reads_like(dataset, _VOC) and not dataset.test_mode:
        return _check_voc_boxes
    if _reads_like(dataset, _COCO_BOXES) and _loads_masks(dataset):
        return _check_masks
    if _reads_like(dataset, _COCO_PERSONS):
        return _check_keypoints
    return None


def _reads_like(dataset: BaseDataset, name: str, *methods: str) -> bool:
    """Whether ``dataset`` parses annotations like the class with this full name, which may be missing."""
    bases = _bases(dataset)
    return name in bases and all(
        getattr(type(dataset), key) is getattr(bases[name], key) for key in (*methods, "parse_data_info")
    )


def _bases(dataset: BaseDataset) -> dict[str, Any]:
    """The classes of a data set by their full names."""
    return {f"{base.__module__}.{base.__name__}": base for base in type(dataset).__mro__}


def _loads_masks(dataset: BaseDataset) -> bool:
    from mmdet.datasets.transforms import LoadAnnotations

    steps = getattr(dataset.pipeline, "transforms", ())
    return any(isinstance(step, LoadAnnotations) and step.with_mask for step in steps)


def _check_voc_boxes(dataset: BaseDataset, info: dict) -> None:
    """Check VOC boxes: mmdet ignores none, and an empty one may make a loss infinite."""
    width, height = info["width"], info["height"]
    for instance in info["instances"]:
        x1, y1, x2, y2 = instance["bbox"]
        inside = min(x2, width) > max(x1, 0) and min(y2, height) > max(y1, 0)
        if not inside and not instance["ignore_flag"]:
            # mmdet counts pixels from 0, VOC from 1.
            written = [side + 1 for side in instance["bbox"]]
            raise UserError(
                f"{info['xml_path']}: the box {written} is empty or outside its image of {width} x {height} "
                "pixels: correct it, or remove its object"
            )


def _check_masks(dataset: BaseDataset, info: dict) -> None:
    for instance in info["instances"]:
        if "mask" not in instance:
            raise UserError(
                f"{dataset.ann_file}: the box {instance['bbox']} (x1, y1, x2, y2) in {info['img_path']} has "
                "no segmentation, but the config loads masks: add one, or remove the annotation"
            )


def _check_keypoints(dataset: BaseDataset, info: dict) -> None:
    expected = dataset.metainfo["num_keypoints"]
    # In bottom-up sets an image's persons are one entry; a test set's image may have none.
    number = info["keypoints"].shape[1] if "keypoints" in info else expected
    if number != expected:
        raise UserError(
            f"{dataset.ann_file}: the annotation with id {np.ravel(info['id'])[0]} has {number} keypoints, "
            f"but the data set's metainfo has {expected}: correct the annotation or the metainfo"
        )
