"""A detector: FCOS on boxes in COCO's, VOC's or YOLO's format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attn_mm.errors import UserError
from attn_mm.new.formats import coco, voc, yolo
from attn_mm.new.formats.boxed import Part, with_validation
from attn_mm.new.literals import OWN, source
from attn_mm.new.network import resnet, widths_of, with_attention
from attn_mm.new.plan import Plan, Wishes, annotations_folder
from attn_mm.new.report import Report, counts_in_words
from attn_mm.new.schedule import batch_size_for, check_number, epochs_for, last_is_alone, schedule_text
from attn_mm.new.tasks.coco_parts import (
    annotation_files,
    classes_of,
    describe_parts,
    in_order,
    loaders_text,
)

PACKAGE = ("mmdet", "det")
_BATCH_SIZE = 8
_LARGEST, _SMALLEST, _MULTIPLE = 800, 96, 32
# Of the images that the base's filter_cfg keeps.
_SMALLEST_SIDE = 32

_READERS: dict[str, Callable[[Path, Report], dict[str, Part]]] = {
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
}
_RECOGNISED = {"coco": coco.is_coco, "voc": voc.is_voc, "yolo": yolo.is_yolo}


def plan(name: str, wishes: Wishes) -> Plan:
    """Look at a data set and plan its config.

    Args:
        name: of the config.
        wishes: the command line.

    Raises:
        UserError: the data set can't be used.
    """
    report = Report()
    kind = wishes.format or _recognise(wishes.data)
    root = coco.root_of(wishes.data)
    parts = with_validation(_READERS[kind](wishes.data, report), wishes.seed, report)
    sizes = describe_parts(parts, report, "boxes")
    counts = classes_of(parts, report)
    classes = in_order(parts, counts)
    if not counts["train"] or not counts["val"]:
        raise UserError(
            f"{wishes.data} has no box to {'train on' if not counts['train'] else 'validate with'}"
        )
    report.found.insert(0, f"{wishes.data}: boxes in {kind.upper()}'s format, {len(classes)} classes")
    report.found.append(f"classes: {counts_in_words(sum(counts.values(), Counter()))}")
    size = wishes.size or _size_for(max(max(size) for size in sizes))
    number = _used(parts["train"].content)
    check_number(number, wishes.data, f"images of at least {_SMALLEST_SIDE} pixels with a box")
    return Plan(
        f"FCOS with {wishes.network()}, images of up to {size} pixels",
        _config(name, wishes, root, parts, classes, size, number),
        report,
        annotation_files(parts),
    )


def _used(content: dict[str, Any]) -> int:
    """The number of images that mmdet trains on: those with a box that are large enough."""
    boxed = {item["image_id"] for item in content["annotations"] if item.get("bbox")}
    return sum(
        image["id"] in boxed and min(image["width"], image["height"]) >= _SMALLEST_SIDE
        for image in content["images"]
    )


def _recognise(data: Path) -> str:
    kinds = [kind for kind, recognises in _RECOGNISED.items() if recognises(data)]
    if not kinds:
        coco.check_files(data)
        raise UserError(f"{data} has no boxes of COCO, VOC or YOLO: CVAT and Label Studio export all three")
    if len(kinds) > 1:
        raise UserError(f"{data} looks like {' and '.join(kinds)}: name its format with --format")
    return kinds[0]


def _size_for(longest: int) -> int:
    return min(_LARGEST, max(_SMALLEST, longest // _MULTIPLE * _MULTIPLE))


def _config(
    name: str,
    wishes: Wishes,
    root: Path,
    parts: dict[str, Part],
    classes: list[str],
    size: int,
    number: int,
) -> str:
    batch_size = batch_size_for(number, _BATCH_SIZE)
    epochs = wishes.epochs or epochs_for(number, batch_size)
    batch = f"batch_size={batch_size}"
    if last_is_alone(number, batch_size):
        batch += ", batch_sampler=dict(drop_last=True)"
    backbone = with_attention(resnet(wishes.backbone), wishes.attention)
    return f'''\
_base_ = "attn_mm::tdaf/fcos-r50_plain_coco.py"

root = {source(f"{root}/")}
annotations = "{OWN}/{annotations_folder(name)}/"
data = dict(data_root=root, metainfo=dict(classes={source(classes)}))

model = dict(
    # Of torchvision's weights: RGB, and not the base's BGR.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(_delete_=True, {backbone}),
    neck=dict(in_channels={widths_of(wishes.backbone)}),
    bbox_head=dict(num_classes={len(classes)}),
)

# Images become as large as fits into a square of this side.
resize = dict(type="Resize", scale=({size}, {size}), keep_ratio=True)
load, boxes = dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)
flip = dict(type="RandomFlip", prob=0.5)
meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
train_pipeline = [load, boxes, resize, flip, dict(type="PackDetInputs")]
test_pipeline = [load, resize, boxes, dict(type="PackDetInputs", meta_keys=meta)]

{loaders_text(parts, batch, evaluator=", classwise=True")}

{schedule_text(epochs, number, batch_size, "coco/bbox_mAP_50")}'''
