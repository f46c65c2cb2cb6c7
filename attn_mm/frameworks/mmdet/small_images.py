"""Fit a detector made for images of 800 pixels, or of 300 for SSD, to the small images of a demo."""

from __future__ import annotations

import math

from mmengine.config import ConfigDict

from attn_mm.utils.config import walk

# Number of RoIs of an image in the second stage, in training and in a test.
TRAINED_ROIS, TESTED_ROIS = 48, 100
IMAGENET_STD = [58.395, 57.12, 57.375]
# The sides of every map of a pyramid are then halves of those of the one below.
LARGEST_STRIDE = 32


def fit_detector(model: ConfigDict, size: int) -> None:
    """Fit a model to square images of ``size`` pixels, in place."""
    for node in list(walk(model)):
        kind = node.get("type")
        if kind == "AnchorGenerator":
            _halve_anchors(node)
        elif kind == "SingleRoIExtractor":
            # A shape is then pooled from the level whose anchors it matches.
            node.finest_scale = node.get("finest_scale", 56) / 2
        elif kind == "SSDHead":
            _fit_ssd(model, size)
    _drop_rois(model)
    _fit_batches(model, size)


def _fit_batches(model: ConfigDict, size: int) -> None:
    """Fit what the data preprocessor does to whole batches: it resizes or pads to the config's own size."""
    preprocessor = model.get("data_preprocessor") or ConfigDict()
    # The config's test pipeline may pad instead, as RTMDet's does; the demo's doesn't.
    if preprocessor.get("pad_size_divisor", 1) == 1:
        preprocessor.pad_size_divisor = LARGEST_STRIDE
    for step in walk(preprocessor.get("batch_augments")):
        if "random_size_range" in step:
            factor = 2 * size / sum(step.random_size_range)
            step.random_size_range = tuple(round(factor * side) for side in step.random_size_range)
        for key in ("size", "scale"):
            if key in step:
                step[key] = (size, size)


def _halve_anchors(generator: ConfigDict) -> None:
    """Halve all anchors: the smallest become 16 pixels instead of 32, for shapes of 18 to 38."""
    if "octave_base_scale" in generator:
        generator.octave_base_scale /= 2
    elif "scales" in generator:
        generator.scales = [scale / 2 for scale in generator.scales]


def _drop_rois(model: ConfigDict) -> None:
    """Limit the RoIs: the fully connected layers would spend most of the time on the usual 512."""
    train, test = (model.get(key) or {} for key in ("train_cfg", "test_cfg"))
    for proposals in (train.get("rpn_proposal"), test.get("rpn")):
        if proposals and "max_per_img" in proposals:
            proposals.max_per_img = min(proposals.max_per_img, TESTED_ROIS)
    for node in walk(train.get("rcnn")):
        if "pos_fraction" in node and "num" in node:
            node.num = min(node.num, TRAINED_ROIS)


def _fit_ssd(model: ConfigDict, size: int) -> None:
    """Drop the levels that small images have no room for, and scale the other levels' anchors."""
    from mmdet.registry import TASK_UTILS

    # attn_mm.AttnNeck has the neck inside.
    neck, head = model.neck.get("neck", model.neck), model.bbox_head
    original = TASK_UTILS.build(dict(head.anchor_generator, _scope_="mmdet"))
    maps = [math.ceil(size / stride) for stride, _ in original.strides[: len(neck.in_channels)]]
    for stride, padding in zip(neck.level_strides, neck.level_paddings, strict=True):
        side = (maps[-1] + 2 * padding - 3) // stride + 1
        if not 0 < side < maps[-1]:
            break
        maps.append(side)
    levels = len(maps)
    extra = levels - len(neck.in_channels)
    neck.out_channels, head.in_channels = neck.out_channels[:levels], head.in_channels[:levels]
    neck.level_strides, neck.level_paddings = neck.level_strides[:extra], neck.level_paddings[:extra]

    # The coarsest level has one cell.
    shrunk = size / original.strides[-1][0]
    smallest = [shrunk * base for base in original.base_sizes[:levels]]
    head.anchor_generator.update(
        strides=[size // side for side in maps],
        ratios=head.anchor_generator.ratios[:levels],
        min_sizes=smallest,
        max_sizes=[base * float(scale[1]) ** 2 for base, scale in zip(smallest, original.scales)],
    )
    # SSD's pretrained weights take raw pixel values; from scratch, a VGG without norms needs small ones.
    model.data_preprocessor.std = IMAGENET_STD
