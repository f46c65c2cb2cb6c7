"""A classifier: a ResNet on a folder of images for each class."""

from __future__ import annotations

import statistics

from attn_mm.datasets.media import IMAGE_SUFFIXES
from attn_mm.new.images import look_at_images
from attn_mm.new.literals import OWN, source
from attn_mm.new.network import resnet, widths_of, with_attention
from attn_mm.new.plan import Plan, Wishes, annotations_folder
from attn_mm.new.report import Report, sizes_in_words
from attn_mm.new.schedule import batch_size_for, epochs_for, last_is_alone, schedule_text
from attn_mm.new.tasks.class_folders import look_through, top_k

PACKAGE = ("mmpretrain", "pretrain")
_BATCH_SIZE = 32
_LARGEST, _SMALLEST, _MULTIPLE = 224, 64, 32


def plan(name: str, wishes: Wishes) -> Plan:
    """Look at a data set and plan its config.

    Args:
        name: of the config.
        wishes: the command line.

    Raises:
        UserError: the data set can't be used.
    """
    report = Report()
    found = look_through(wishes, report, IMAGE_SUFFIXES, "images", " ", look_at_images)
    known = [*found.looks.values()]
    classes = found.classes
    report.found.insert(0, f"{wishes.data}: {len(classes)} classes of images of {sizes_in_words(known)}")
    size = wishes.size or _size_for(known)
    return Plan(
        f"{wishes.network()}, images of {size} x {size} pixels",
        _config(name, wishes, classes, size, found.numbers),
        report,
        found.lists,
    )


def _size_for(sizes: list[tuple[int, int]]) -> int:
    typical = int(statistics.median(min(size) for size in sizes))
    return min(_LARGEST, max(_SMALLEST, typical // _MULTIPLE * _MULTIPLE))


def _config(name: str, wishes: Wishes, classes: list[str], size: int, numbers: dict[str, int]) -> str:
    number = numbers["train"]
    batch_size = batch_size_for(number, _BATCH_SIZE)
    epochs = wishes.epochs or epochs_for(number, batch_size)
    batch = f"batch_size={batch_size}, drop_last={last_is_alone(number, batch_size)}"
    topk = top_k(len(classes))
    backbone = with_attention(resnet(wishes.backbone), wishes.attention)
    test = "test" if "test" in numbers else "val"
    return f'''\
_base_ = "attn_mm::td/r50_plain_125e_in1k.py"

data = dict(
    _delete_=True,
    type="CustomDataset",
    data_root={source(f"{wishes.data}/")},
    metainfo=dict(classes={source(classes)}),
)
lists = "{OWN}/{annotations_folder(name)}/"

model = dict(
    backbone=dict(_delete_=True, {backbone}),
    head=dict(num_classes={len(classes)}, in_channels={widths_of(wishes.backbone)[-1]}, topk={topk}),
)
data_preprocessor = dict(num_classes={len(classes)})

load, pack = dict(type="LoadImageFromFile"), dict(type="PackInputs")
crop = dict(type="RandomResizedCrop", scale={size}, crop_ratio_range=(0.35, 1.0))
flip = dict(type="RandomFlip", prob=0.5, direction="horizontal")
train_pipeline = [load, crop, flip, pack]
resize = dict(type="ResizeEdge", scale={size}, edge="short")
test_pipeline = [load, resize, dict(type="CenterCrop", crop_size={size}), pack]

train_dataloader = dict(
    {batch}, num_workers=2,
    dataset=dict(**data, ann_file=lists + "train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(**data, ann_file=lists + "val.txt", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = dict(
    num_workers=2,
    dataset=dict(**data, ann_file=lists + "{test}.txt", pipeline=test_pipeline, test_mode=True),
)
val_evaluator = dict(topk={topk})
test_evaluator = dict(topk={topk})

{schedule_text(epochs, number, batch_size, "accuracy/top1")}'''
