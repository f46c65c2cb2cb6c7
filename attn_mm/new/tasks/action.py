"""An action recogniser: a 3D ResNet on a folder of videos for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attn_mm.datasets.media import VIDEO_SUFFIXES, VideoFrames
from attn_mm.errors import UnreadableFile
from attn_mm.new.literals import OWN, source
from attn_mm.new.network import depth_of, widths_of, with_attention
from attn_mm.new.plan import Plan, Wishes, annotations_folder
from attn_mm.new.report import Report
from attn_mm.new.schedule import batch_size_for, epochs_for, last_is_alone, schedule_text
from attn_mm.new.tasks.class_folders import look_through, top_k
from attn_mm.utils.progress import progress_bar

PACKAGE = ("mmaction", "action")
_BATCH_SIZE = 8
_SIZE = 112
_CLIP = 16
# Between path and label: a name may have spaces.
_SEPARATOR = "\t"


def plan(name: str, wishes: Wishes) -> Plan:
    """Look at a data set and plan its config.

    Args:
        name: of the config.
        wishes: the command line.

    Raises:
        UserError: the data set can't be used.
    """
    report = Report()
    found = look_through(wishes, report, VIDEO_SUFFIXES, "videos", _SEPARATOR, _lengths)
    short = sorted(path.name for path, frames in found.looks.items() if frames < _CLIP)
    report.complain(f"videos of fewer than {_CLIP} frames", short, "their frames are repeated")
    known = found.looks.values()
    frames = f" of {min(known):,} to {max(known):,} frames" if known else ""
    report.found.insert(0, f"{wishes.data}: {len(found.classes)} classes of videos{frames}")
    size = wishes.size or _SIZE
    return Plan(
        f"3D {wishes.network()}, clips of {_CLIP} frames of {size} x {size} pixels",
        _config(name, wishes, found.classes, size, found.numbers),
        report,
        found.lists,
    )


def _lengths(paths: Sequence[Path]) -> dict[Path, int | None]:
    """The number of frames of each video; None if it can't be read."""
    found: dict[Path, int | None] = {}
    with progress_bar() as progress:
        for path in progress.track(paths, description="Looking at videos"):
            try:
                found[path] = VideoFrames(path).count
            except UnreadableFile:
                found[path] = None
    return found


def _config(name: str, wishes: Wishes, classes: list[str], size: int, numbers: dict[str, int]) -> str:
    number = numbers["train"]
    batch_size = batch_size_for(number, _BATCH_SIZE)
    epochs = wishes.epochs or epochs_for(number, batch_size)
    batch = f"batch_size={batch_size}, drop_last={last_is_alone(number, batch_size)}"
    hara = f'type="attn_mm.HaraResNet3d", depth={depth_of(wishes.backbone)}'
    backbone = with_attention(hara, wishes.attention, anar=5)
    options = f"metric_options=dict(top_k_accuracy=dict(topk={top_k(len(classes))}))"
    evaluators = f"val_evaluator = dict({options})\ntest_evaluator = dict({options})\n"
    test = "test" if "test" in numbers else "val"
    return f'''\
_base_ = "attn_mm::tdaf/3dr50_plain_kinetics400.py"

lists = "{OWN}/{annotations_folder(name)}/"
data = dict(
    data_root={source(f"{wishes.data}/")},
    data_prefix=dict(video=""),
    # A tab, because names may have spaces.
    delimiter="\\t",
    metainfo=dict(classes={source(classes)}),
)

model = dict(
    # Of torchvision's weights, which are inflated.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type="attn_mm.Inflated",
        pretrained="torchvision://{wishes.backbone}",
        backbone=dict({backbone}),
    ),
    cls_head=dict(num_classes={len(classes)}, in_channels={widths_of(wishes.backbone)[-1]}),
)

read = [dict(type="attn_mm.OpenVideo"), dict(type="attn_mm.ReadFrames")]
pack = [dict(type="FormatShape", input_format="NCTHW"), dict(type="PackActionInputs")]
train_pipeline = [
    read[0],
    dict(type="SampleFrames", clip_len={_CLIP}),
    read[1],
    dict(type="MultiScaleCrop", input_size={size}, scales=(1, 0.84, 0.71), max_wh_scale_gap=0),
    dict(type="Resize", scale=({size}, {size}), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    *pack,
]
test_pipeline = [
    read[0],
    dict(type="SampleFrames", clip_len={_CLIP}, num_clips=3, test_mode=True),
    read[1],
    dict(type="Resize", scale=(-1, {size})),
    dict(type="CenterCrop", crop_size={size}),
    *pack,
]

train_dataloader = dict(
    {batch}, num_workers=2,
    dataset=dict(**data, ann_file=lists + "train.txt", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size={batch_size}, num_workers=2,
    dataset=dict(**data, ann_file=lists + "val.txt", pipeline=test_pipeline),
)
test_dataloader = dict(
    num_workers=2, dataset=dict(**data, ann_file=lists + "{test}.txt", pipeline=test_pipeline)
)
{evaluators}
{schedule_text(epochs, number, batch_size, "acc/top1")}'''
