"""Find the boxes of persons, which a top-down pose estimator crops."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel

from attn_mm.datasets.checks.annotations import check_bbox_file
from attn_mm.datasets.coco_files import read_detections, read_images
from attn_mm.errors import UserError
from attn_mm.frameworks.mmdet.predict import detection

PersonFinder = Callable[[np.ndarray, str], tuple[np.ndarray, np.ndarray]]
"""Takes an image, (H, W, 3), uint8, BGR, and its file name; returns boxes (N, 4) and their scores (N,).

Boxes are x1, y1, x2, y2 in pixels of the image.
"""

PERSON = "person"
# Of mmpose's inferencer: of boxes that overlap more, only the most confident is kept.
_NMS_THR = 0.3


def whole_image(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The image as one person."""
    height, width = image.shape[:2]
    return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)


def person_label(model: BaseModel, cfg: Config) -> int:
    """Index of the class person among a detector's classes; UserError if it has none."""
    classes = model.dataset_meta["classes"]
    if PERSON not in classes:
        raise UserError(f"{cfg.filename} detects no class {PERSON!r}, only {', '.join(classes)}")
    return classes.index(PERSON)


def detected_persons(model: BaseModel, cfg: Config) -> PersonFinder:
    """Find persons with an mmdet detector, and drop overlapping boxes as mmpose's inferencer does.

    Args:
        model: the detector, with ``dataset_meta``.
        cfg: its config, for the test pipeline.

    Raises:
        UserError: it detects no class ``person``.
    """
    from mmpose.evaluation.functional import nms

    label = person_label(model, cfg)
    detect = detection(model, cfg)

    def find(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        instances = detect(image)[0].pred_instances
        instances = instances[instances.labels == label].numpy()
        kept = nms(np.column_stack([instances.bboxes, instances.scores]), _NMS_THR)
        return instances.bboxes[kept], instances.scores[kept]

    return find


def listed_persons(bbox_file: str, ann_file: str, images: Sequence[Path]) -> PersonFinder:
    """Look up persons in a detection file of COCO's format, by the image's file name.

    Args:
        bbox_file: ``[{"image_id", "category_id": 1, "bbox": [x, y, w, h], "score"}]``.
        ann_file: COCO annotations, which list the file name of each image id.
        images: the images to predict on; a warning names those that ``ann_file`` doesn't list.

    Raises:
        UserError: a file can't be read, the files don't fit each other or ``images``, or two images with
            persons have the same name.
    """
    check_bbox_file(bbox_file, ann_file)
    files = {image.id: image.file_name for image in read_images(ann_file)}
    _check_listed(images, ann_file, {Path(file).name for file in files.values()})
    found: dict[str, list[list[float]]] = defaultdict(list)
    owners: dict[str, int | str] = {}
    for item in read_detections(bbox_file):
        if item.category_id == 1:
            file = files[item.image_id]
            name = Path(file).name
            if owners.setdefault(name, item.image_id) != item.image_id:
                raise UserError(
                    f"{ann_file}: the images {files[owners[name]]} and {file} have the same name, by which "
                    "their persons are found: name a file with the images of one folder only"
                )
            x, y, width, height = item.bbox
            found[name].append([x, y, x + width, y + height, item.score])

    def find(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array(sorted(found[name], key=lambda row: -row[4]), np.float32).reshape(-1, 5)
        return rows[:, :4], rows[:, 4]

    return find


def annotated_persons(dataset: BaseDataset) -> PersonFinder:
    """Look up persons among the annotated boxes of a data set of mmpose, by the image's file name."""
    boxes = defaultdict(list)
    for index in range(len(dataset)):
        person = dataset.get_data_info(index)
        boxes[Path(person["img_path"]).name].append(person["bbox"][0])

    def find(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        return np.array(boxes[name]), np.ones(len(boxes[name]), np.float32)

    return find


def _check_listed(images: Sequence[Path], ann_file: str, names: set[str]) -> None:
    unlisted = [path for path in images if path.name not in names]
    if not unlisted:
        return
    which = f"{unlisted[0]}" + (f" and {len(unlisted) - 1} more of the images" if len(unlisted) > 1 else "")
    if len(unlisted) == len(images):
        raise UserError(f"{ann_file} doesn't list {which}: name the annotations of these images")
    print(f"warning: {ann_file} doesn't list {which}: nobody is looked for there", file=sys.stderr)
