"""COCO as a multi-label data set: the classes that each image shows.

Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014 (https://arxiv.org/abs/1405.0312).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from mmpretrain.datasets import MultiLabelDataset
from msgspec import Struct

from attn_mm.datasets.coco_files import Category, Int, read_typed
from attn_mm.errors import UserError
from attn_mm.registry import DATASETS

# fmt: off
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


class _Image(Struct):
    id: Int | str
    file_name: str


class _Label(Struct):
    image_id: Int | str
    category_id: Int


class _Labels(Struct):
    images: list[_Image]
    annotations: list[_Label]
    categories: list[Category]


@DATASETS.register_module()
class CocoLabels(MultiLabelDataset):
    """Multi-label data set that reads COCO's ``instances`` files.

    An image has a class if it has any annotation of it, however small, including crowds. Images without
    annotations are ignored, in training and in evaluation. Both follow the code of Ridnik et al., Asymmetric
    Loss for Multi-Label Classification, ICCV 2021 (https://github.com/Alibaba-MIIL/ASL).

    Args:
        ann_file: a file in the format of ``instances_train2017.json``.
        dataset: options of mmpretrain's ``BaseDataset``. For classes other than COCO's, set
            ``metainfo=dict(classes=...)``.

    Raises:
        UserError: if the file can't be read, has another format, lacks a class, or has no annotated image.
    """

    METAINFO: ClassVar = {"classes": CLASSES}

    def load_data_list(self) -> list[dict]:
        content = read_typed(self.ann_file, _Labels, "a COCO annotation file")
        names = {category.id: category.name for category in content.categories}
        labels = {name: label for label, name in enumerate(self.metainfo["classes"])}
        lacking = [name for name in labels if name not in names.values()]
        if lacking:
            raise UserError(
                f"{self.ann_file} has no category {lacking[0]!r}"
                + (f", nor {len(lacking) - 1} more of the config's classes" if len(lacking) > 1 else "")
                + ": list its categories in metainfo=dict(classes=...)"
            )
        shown = defaultdict(set)
        for annotation in content.annotations:
            shown[annotation.image_id].add(names.get(annotation.category_id))
        images = [image for image in content.images if image.id in shown]
        if not images:
            raise UserError(f"{self.ann_file} has no annotated image")
        return [
            {
                "img_id": image.id,
                "img_path": str(Path(self.img_prefix, image.file_name)),
                "gt_label": sorted(labels[name] for name in shown[image.id] if name in labels),
            }
            for image in images
        ]
