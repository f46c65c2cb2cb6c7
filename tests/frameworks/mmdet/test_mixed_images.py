"""Mosaics in a demo: at its image size, over its data set, and ended by the config's own hook."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.hub import get_config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner

from attn_mm.frameworks.demo import to_demo
from attn_mm.frameworks.mmdet.demo import IMAGE_SIZE, MORE_EPOCHS
from attn_mm.utils.config import type_name, walk

pytest.importorskip("mmdet.datasets")
pytest.importorskip("mmdet.models")
from mmdet.structures import DetDataSample

YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
RTMDET = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
RTMDET_INS = "mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"
FASTER_RCNN = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

pytestmark = pytest.mark.usefixtures("small_demos")


def demo(base):
    cfg = copy.deepcopy(get_config(base))
    to_demo(cfg)
    return cfg


def pixels(node) -> set[int]:
    """The sizes of square pictures among the options of steps."""
    return {max(step[key]) for step in walk(node) for key in ("img_scale", "scale", "size") if key in step}


@pytest.mark.parametrize(
    ("base", "mosaic"),
    [
        (YOLOX, "Mosaic"),
        (RTMDET, "CachedMosaic"),
        pytest.param(RTMDET_INS, "CachedMosaic", marks=pytest.mark.whole),
    ],
)
def test_mosaics_are_of_the_demos_own_images_and_size(base, mosaic):
    cfg = demo(base)
    assert mosaic in map(type_name, walk(cfg.train_dataloader))
    # RTMDet resizes a mosaic to twice the size, and crops it.
    assert pixels(cfg.train_dataloader) <= {IMAGE_SIZE, 2 * IMAGE_SIZE}
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        sample = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    source = dataset if isinstance(dataset, BaseDataset) else dataset.dataset
    assert source.metainfo["classes"][0] == "circle"
    assert {tuple(picture.shape) for picture in sample["inputs"]} == {(3, IMAGE_SIZE, IMAGE_SIZE)}
    boxes = [item.gt_instances for item in sample["data_samples"]]
    assert any(len(found) for found in boxes)
    if base == RTMDET_INS:
        assert all(found.masks.masks.shape == (len(found), IMAGE_SIZE, IMAGE_SIZE) for found in boxes)


def test_mosaics_end_after_a_fifth_of_the_epochs():
    (switch, average) = demo(RTMDET).custom_hooks
    assert (switch.type, switch.switch_epoch) == ("PipelineSwitchHook", MORE_EPOCHS / 5)
    assert pixels(switch.switch_pipeline) == {IMAGE_SIZE}
    assert "CachedMosaic" not in map(type_name, walk(switch))
    assert average.type == "EMAHook"
    (switch, _) = demo(YOLOX).custom_hooks
    # It switches in the epoch e, counted from 0, where e + 1 >= epochs - num_last_epochs.
    assert (switch.type, MORE_EPOCHS - switch.num_last_epochs - 1) == ("YOLOXModeSwitchHook", MORE_EPOCHS / 5)


def test_images_that_are_not_square_are_padded():
    """RTMDet's own test pipeline pads them; its pyramid adds only maps of even sides."""
    cfg = demo(RTMDET)
    with DefaultScope.overwrite_default_scope("mmdet"):
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
    image = torch.zeros(3, 64, 43, dtype=torch.uint8)
    batch = preprocessor(dict(inputs=[image], data_samples=[DetDataSample()]))
    assert batch["inputs"].shape == (1, 3, 64, 64)


def test_batches_are_resized_around_the_demos_size():
    (resize,) = demo(YOLOX).model.data_preprocessor.batch_augments
    low, high = (round(side / resize.size_divisor) for side in resize.random_size_range)
    assert low < IMAGE_SIZE / resize.size_divisor < high


def test_a_config_without_mosaics_has_neither():
    cfg = demo(FASTER_RCNN)
    assert cfg.custom_hooks == []
    assert type_name(cfg.train_dataloader.dataset) == "CocoDataset"
