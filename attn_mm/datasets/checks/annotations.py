"""Checks of COCO annotation and detection files; a fault is reported in one line.

The frameworks number labels by the order of a file's categories, train on boxes that make no sense, or crash
somewhere inside.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmengine.logging import print_log
from msgspec import UNSET, Raw

from attn_mm.datasets.checks.boxes import check_boxes, check_masks_in_boxes
from attn_mm.datasets.checks.classes import few, spelled
from attn_mm.datasets.coco_files import (
    Annotation,
    Category,
    Coco,
    CocoPersons,
    Image,
    Person,
    PersonImage,
    check_mask,
    read_coco,
    read_detections,
    read_images,
    read_lvis,
    read_persons,
)
from attn_mm.errors import UserError
from attn_mm.utils.files import is_inside

T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """How a data set of mmdet reads COCO annotations; by default as ``CocoDataset`` does.

    ``CocoDataset`` numbers the classes of the config by the order of the file's categories
    (mmdet/datasets/coco.py, ``load_data_list``).

    Attributes:
        by_id: numbers them by the ids of the categories instead.
        all_numbered: numbers all categories of the file.
        urls: the file names of the images are in their URLs.
    """

    by_id: bool = False
    all_numbered: bool = False
    urls: bool = False


COCO_READER = Reader()


def check_coco_boxes(
    path: str,
    classes: Sequence[str],
    needed: Sequence[str] = ("bbox", "area"),
    masks: bool = False,
    boxless: bool = False,
    reader: Reader = COCO_READER,
) -> Coco:
    """Check that mmdet reads COCO annotations with the right labels, and keeps at least one box.

    It ignores boxes of other classes, outside the image, less than a pixel wide or
    high, or with area 0 (``parse_data_info``).

    Args:
        path: the annotations.
        classes: the config's classes.
        needed: what every annotation must have.
        masks: whether masks are read, too.
        boxless: whether the file may lack boxes to learn from.
        reader: how the data set numbers the classes and finds the images.

    Raises:
        UserError: the file has a fault.
    """
    content = read_lvis(path) if reader.urls else read_coco(path)
    names = _check_ids(path, content, needed)
    _check_files(path, content.images)
    if reader.by_id:
        names = [category.name for category in sorted(content.categories or (), key=lambda one: one.id)]
    _check_order(path, names, classes, reader.all_numbered)
    known = {category.id for category in content.categories or () if category.name in classes}
    boxes = [box for box in content.annotations if box.category_id in known]
    sizes = {image.id: (image.width, image.height) for image in content.images}
    if masks:
        _check_masks(path, content.annotations, sizes)
    check_boxes(path, content.annotations, sizes)
    if boxless:
        return content
    if not boxes:
        raise UserError(f"{path} has no box of the config's classes ({few(classes)})")
    usable = [box for box in boxes if _usable(box, *sizes.get(box.image_id, (0, 0)))]
    if not usable:
        raise UserError(f"{path}: every box is empty or outside its image")
    if all(box.iscrowd is not UNSET and box.iscrowd for box in usable):
        raise UserError(f"{path}: every box has iscrowd 1, which nothing is learned from or judged by")
    return content


def _check_masks(path: str, annotations: Sequence[Annotation], sizes: Mapping) -> None:
    around = {}
    for place, item in enumerate(annotations):
        if item.segmentation is not UNSET and not _is_empty(item.segmentation):
            # mmdet ignores an object whose box is outside.
            used = item.bbox is not UNSET and _usable(item, *sizes[item.image_id])
            found = check_mask(path, place, item.segmentation, sizes[item.image_id] if used else None)
            if used:
                around[place] = found
    check_masks_in_boxes(path, annotations, around)


def _check_ids(path: str, content: Coco | CocoPersons, needed: Sequence[str]) -> list[str]:
    """Check the ids of a file, and that its annotations have what is needed; return its categories' names."""
    images: Sequence[Image | PersonImage] = content.images
    annotations: Sequence[Annotation | Person] = content.annotations
    categories: list[Category] | None = None if content.categories is UNSET else content.categories
    if categories is None:
        raise UserError(f"{path} is not a COCO file: it has no list of categories")
    for what, ids in (
        ("images", [image.id for image in images]),
        ("annotations", [annotation.id for annotation in annotations]),
        ("categories", [category.id for category in categories]),
    ):
        if len({type(one) for one in ids}) > 1:
            raise UserError(f"{path}: some ids of {what} are numbers and some are texts: write one kind")
        if len(set(ids)) < len(ids):
            raise UserError(f"{path}: several {what} have the same id, such as {_repeated(ids)}")
    listed = {image.id for image in images}
    for place, annotation in enumerate(annotations):
        if annotation.image_id not in listed:
            raise UserError(
                f"{path}: annotations[{place}].image_id is {annotation.image_id!r:.40}, but no image has "
                "this id: remove the annotation or add the image"
            )
    names = [category.name for category in categories]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: several categories have the same name, {_repeated(names)}")
    known = {category.id for category in categories}
    for place, annotation in enumerate(annotations):
        for key in needed:
            value = getattr(annotation, key)
            if value is UNSET or (isinstance(value, Raw) and _is_empty(value)):
                raise UserError(f"{path}: annotations[{place}] has no {key}")
        if annotation.category_id not in known:
            raise UserError(
                f"{path}: annotations[{place}].category_id is {annotation.category_id}, but the categories "
                f"have the ids {few(sorted(map(str, known)))}"
            )
    return names


def _check_files(path: str, images: Sequence[Image]) -> None:
    """Check that no file is several images, of which each has a part of its boxes."""
    first: dict[str, int] = {}
    for place, image in enumerate(images):
        other = first.setdefault(image.file_name, place)
        if other != place:
            raise UserError(
                f"{path}: images[{other}] and images[{place}] are the same file, {image.file_name[:60]}: "
                "give it one id"
            )


def _is_empty(segmentation: Raw) -> bool:
    """Whether there is no mask."""
    return bytes(segmentation) in (b"[]", b"null")


def _repeated(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _check_order(path: str, names: Sequence[str], classes: Sequence[str], all_numbered: bool) -> None:
    """Check that a file's categories are the config's classes in their order.

    Args:
        path: the file, for messages.
        names: its categories, in the order in which they are numbered.
        classes: the config's classes.
        all_numbered: whether other categories between them would be numbered, too.
    """
    shared = [name for name in names if name in classes]
    lists = f"config: {few(classes)}; file: {few(names)}. Correct metainfo=dict(classes=...)"
    if shared == list(classes):
        if all_numbered and len(names) > len(shared):
            raise UserError(f"{path} has categories that are no classes of the config; {lists}")
        return
    lacking = [name for name in classes if name not in names]
    if lacking:
        raise UserError(f"{path} has no category {lacking[0]!r}; {lists} or add the category")
    raise UserError(f"{path} has its categories in another order; {lists}")


def check_file_names(path: str, images: Sequence[Image | PersonImage], folder: str) -> None:
    """Check that the images of a file are in their folder.

    Args:
        path: the annotations, for messages.
        images: its images.
        folder: the config's folder for them; without one, names may be absolute.

    Raises:
        UserError: an image is elsewhere.
    """
    for place, image in enumerate(images if folder else ()):
        if not is_inside(image.file_name):
            raise UserError(
                f"{path}: images[{place}].file_name is {image.file_name[:60]!r}, which is not in the folder "
                f"of the images, {folder}: write a path inside it"
            )


def _usable(box: Annotation, width: float, height: float) -> bool:
    assert box.bbox is not UNSET
    x, y, w, h = box.bbox
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return inside and w >= 1 and h >= 1 and (box.area is UNSET or box.area > 0)


def check_coco_persons(
    path: str, keypoints: Sequence[str] | None, needed: Sequence[str] = (), personless: bool = False
) -> CocoPersons:
    """Check that mmpose can read COCO keypoint annotations.

    mmpose ignores crowds, persons without a visible keypoint, and boxes that are empty inside the image
    (mmpose/datasets/datasets/base/base_coco_style_dataset.py, ``_is_valid_instance``).

    Args:
        path: the annotations.
        keypoints: the names of the config's keypoints, in order; None if a converter changes them.
        needed: what every annotation must have.
        personless: whether the file may lack persons.

    Raises:
        UserError: it can't, or reads other keypoints.
    """
    content = read_persons(path)
    _check_ids(path, content, needed)
    if keypoints is not None:
        _check_keypoint_names(path, content, keypoints)
    posed = {place: p for place, p in enumerate(content.annotations) if p.keypoints is not UNSET}
    if not posed and not personless:
        raise UserError(f"{path} has no keypoints: use a file like person_keypoints_train2017.json")
    persons = {place: p for place, p in posed.items() if p.bbox is not UNSET}
    if posed and not persons:
        raise UserError(f"{path}: no annotation with keypoints has a bbox, which mmpose needs: add them")
    number = len(keypoints or ())
    for place, person in persons.items() if number else ():
        nobody = person.keypoints == [] and not (person.num_keypoints or 0)
        if not nobody and len(person.keypoints or ()) != 3 * number:
            raise UserError(
                f"{path}: annotations[{place}].keypoints is not {number} times x, y, visibility, as many as "
                "the data set's metainfo has: correct one of them"
            )
    sizes = {image.id: (image.width, image.height) for image in content.images}
    check_boxes(path, content.annotations, sizes)
    return content


def _check_keypoint_names(path: str, content: CocoPersons, keypoints: Sequence[str]) -> None:
    """Check that the keypoints that a file names are in the config's order."""
    expected = [spelled(name) for name in keypoints]
    for category in content.categories or ():
        named = [spelled(name) for name in category.keypoints or ()]
        moved = [
            name for place, name in enumerate(named) if name in expected and expected.index(name) != place
        ]
        if moved:
            raise UserError(
                f"{path}: category {category.name!r} has its keypoints in another order: "
                f"{_around(category.keypoints or (), named.index(moved[0]))}; config: "
                f"{_around(keypoints, named.index(moved[0]))}"
            )
        if len(named) == len(expected) and named != expected:
            print_log(
                f"{path}: category {category.name!r} has other names of keypoints than the config: "
                f"{few(category.keypoints or ())} and {few(keypoints)}; they are taken in this order",
                logger="current",
                level=logging.WARNING,
            )


def _around(names: Sequence[str], place: int) -> str:
    """A few of the names from ``place`` on, with their numbers."""
    return ", ".join(f"{index} {name}" for index, name in [*enumerate(names)][place : place + 2])


def check_bbox_file(path: str, ann_file: str) -> None:
    """Check that a detection file contains persons in the images of ``ann_file``.

    Args:
        path: COCO results, ``[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}]``.
        ann_file: COCO annotations.

    Raises:
        UserError: if it doesn't.
    """
    persons = read_detections(path)
    known = {image.id for image in read_images(ann_file)}
    unknown = [person.image_id for person in persons if person.image_id not in known]
    if unknown:
        raise UserError(
            f"{path} is for other images: {len(unknown)} of its {len(persons)} boxes are in images that "
            f"{ann_file} doesn't list, such as {unknown[0]}. Create one with attn-mm make-bbox-file"
        )
    # mmpose treats category 1 as persons, as in COCO.
    if not any(person.category_id == 1 for person in persons):
        raise UserError(f"{path} has no box of category 1 (persons)")
