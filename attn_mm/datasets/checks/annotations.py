"""Checks of annotation and detection files; a fault is reported in one line.

COCO: https://cocodataset.org/#format-data and #format-results; Pascal VOC: one XML file per image.
The frameworks don't check these files and crash somewhere inside. The checks read a whole file again, so they
run only on small files, and on annotations only after a framework has failed on them.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError


def load_json(path: str):
    """Read a JSON file.

    Raises:
        UserError: if it can't be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path} is not a JSON file: {error}") from error


def load_coco(path: str) -> dict:
    """Read COCO annotations and check their ``images``.

    Raises:
        UserError: if the format is wrong, or there is no image.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{path} is not a COCO annotation file: it has no list of images")
    if not content["images"]:
        raise UserError(f"{path} lists no image")
    _check_entries(path, "images", content["images"], ("id", "file_name", "width", "height"))
    return content


def load_annotated(path: str) -> dict:
    """Read COCO annotations; also check that each of the ``annotations`` names its image."""
    content = load_coco(path)
    content.setdefault("annotations", [])
    _check_entries(path, "annotations", content["annotations"], ("id", "image_id", "category_id"))
    return content


def load_boxed(path: str) -> dict:
    """Like :func:`load_annotated`; also check the names of ``categories`` and every ``bbox``."""
    content = load_annotated(path)
    _check_entries(path, "categories", content.get("categories"), ("id", "name"))
    for place, entry in enumerate(content["annotations"]):
        if "bbox" in entry:
            _check_box(path, f"annotations[{place}]", entry["bbox"])
    return content


def _check_entries(path: str, name: str, entries, keys: Sequence[str]) -> None:
    if not isinstance(entries, list):
        raise UserError(f"{path} is not a COCO file: it has no list of {name}")
    for place, entry in enumerate(entries):
        lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise UserError(f"{path}: {name}[{place}] has no {lacking[0]}")
        if "bbox" in keys:
            _check_box(path, f"{name}[{place}]", entry["bbox"])
        if "score" in keys and not _is_number(entry["score"]):
            raise UserError(f"{path}: {name}[{place}].score is not a number: {entry['score']}")


def _check_box(path: str, entry: str, box) -> None:
    if not _are_numbers(box, 4):
        raise UserError(f"{path}: {entry}.bbox is not [x, y, width, height]: {box}")


def _are_numbers(value, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def check_coco_boxes(path: str, classes: Sequence[str]) -> None:
    """Check that mmdet can read COCO annotations and keeps at least one box.

    mmdet ignores boxes of other classes, outside the image, less than a pixel wide or high, or with area 0
    (mmdet/datasets/coco.py, ``parse_data_info``).

    Raises:
        UserError: if it can't, or keeps no box.
    """
    content = load_coco(path)
    _check_entries(path, "categories", content.get("categories"), ("id", "name"))
    boxes = content.get("annotations", [])
    _check_entries(path, "annotations", boxes, ("id", "image_id", "category_id", "bbox", "area"))
    if len({box["id"] for box in boxes}) < len(boxes):
        raise UserError(f"{path}: several annotations have the same id")
    names = {category["id"]: category["name"] for category in content["categories"]}
    if not any(names.get(box["category_id"]) in classes for box in boxes):
        raise UserError(
            f"{path} has no box of the config's classes ({_few(classes)}); its categories are "
            f"{_few(list(names.values())) or 'none'}: select some with metainfo=dict(classes=...)"
        )
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    if not any(_usable(box, *sizes.get(box["image_id"], (0, 0))) for box in boxes):
        raise UserError(f"{path}: every box is empty or outside its image")


def _usable(box: dict, width: float, height: float) -> bool:
    x, y, w, h = box["bbox"]
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return inside and w >= 1 and h >= 1 and box["area"] > 0


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_coco_persons(path: str, num_keypoints: int) -> None:
    """Check that mmpose can read COCO keypoint annotations.

    mmpose ignores crowds, persons without a visible keypoint, and boxes that are empty inside the image
    (mmpose/datasets/datasets/base/base_coco_style_dataset.py, ``_is_valid_instance``).

    Raises:
        UserError: if it can't.
    """
    persons = load_annotated(path)["annotations"]
    persons = {place: p for place, p in enumerate(persons) if "keypoints" in p and "bbox" in p}
    if not persons:
        raise UserError(f"{path} has no keypoints: use a file like person_keypoints_train2017.json")
    for place, person in persons.items():
        _check_box(path, f"annotations[{place}]", person["bbox"])
        nobody = person["keypoints"] == [] and not person.get("num_keypoints")
        if not nobody and not _are_numbers(person["keypoints"], 3 * num_keypoints):
            raise UserError(
                f"{path}: annotations[{place}].keypoints is not {num_keypoints} times x, y, visibility"
            )


def check_bbox_file(path: str, ann_file: str) -> None:
    """Check that a detection file contains persons in the images of ``ann_file``.

    Args:
        path: COCO results, ``[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}]``.
        ann_file: COCO annotations.

    Raises:
        UserError: if it doesn't.
    """
    persons = load_json(path)
    if not isinstance(persons, list):
        raise UserError(f"{path} is not a detection file: it must be a list of boxes")
    _check_entries(path, "detections", persons, ("image_id", "category_id", "bbox", "score"))
    known = {image["id"] for image in load_coco(ann_file)["images"]}
    unknown = [person["image_id"] for person in persons if person["image_id"] not in known]
    if unknown:
        raise UserError(
            f"{path} is for other images: {len(unknown)} of its {len(persons)} boxes are in images that "
            f"{ann_file} doesn't list, such as {unknown[0]}. Create one with tools/make_bbox_file.py"
        )
    # mmpose treats category 1 as persons, as in COCO.
    if not any(person["category_id"] == 1 for person in persons):
        raise UserError(f"{path} has no box of category 1 (persons)")


def check_voc(ann_file: str, annotations: str, images: str) -> None:
    """Check that Pascal VOC annotations can be read.

    Args:
        ann_file: text file with one image name per line.
        annotations: folder of the annotations, ``NAME.xml``.
        images: folder of the images, ``NAME.jpg``.

    Raises:
        UserError: if an annotation is missing or broken.
    """
    names = Path(ann_file).read_text().split()
    if not names:
        raise UserError(f"{ann_file} lists no image")
    for name in names:
        path = Path(annotations, f"{name}.xml")
        try:
            fault = next(_voc_faults(ET.parse(path).getroot(), Path(images, f"{name}.jpg")), None)
        except OSError as error:
            raise UserError(f"{path}, which {ann_file} lists, can't be read ({error.strerror})") from error
        except ET.ParseError as error:
            raise UserError(f"{path} is not an XML file: {error}") from error
        if fault:
            raise UserError(f"{path}: {fault}")


def _voc_faults(root: ET.Element, image: Path) -> Iterator[str]:
    if root.find("size") is None:
        try:
            read_image(image)
        except UserError as error:
            yield f"it has no size, and {error}"
    elif not all(_is_text_of(int, root, f"size/{side}") for side in ("width", "height")):
        yield "the width or height in its size is not a whole number"
    for place, item in enumerate(root.findall("object")):
        if item.findtext("name") is None:
            yield f"object {place} has no name"
        if item.find("difficult") is not None and not _is_text_of(int, item, "difficult"):
            yield f"the difficult of object {place} is not a whole number"
        for side in ("xmin", "ymin", "xmax", "ymax"):
            if not _is_text_of(float, item, f"bndbox/{side}"):
                yield f"the bndbox/{side} of object {place} is not a number"


def _is_text_of(kind: type, element: ET.Element, path: str) -> bool:
    """Whether the text at ``path`` is a finite number of type ``kind``."""
    try:
        return math.isfinite(kind(element.findtext(path, "")))
    except ValueError:
        return False
