"""``--demo`` of a detection config: generated shapes, small enough for its schedule.

Detectors that train on mosaics (RTMDet, YOLOX) need more steps, which are cheap.
"""

from __future__ import annotations

from functools import partial

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.generated.shapes import CLASSES, make_shapes
from attn_mm.frameworks.demo_schedule import dataloader, set_schedule
from attn_mm.frameworks.mmdet.mixed_images import mixed_images
from attn_mm.frameworks.mmdet.small_images import fit_detector
from attn_mm.utils.config import drop_pretrained, walk

IMAGE_SIZE = 64
# A step on 16 images takes only half as long again as one on 8.
BATCH_SIZE, BATCH_SIZE_OF_MIXING_DETECTORS = 16, 8
EPOCHS, MORE_EPOCHS = 3, 10
# AP50 of FCOS R50 with TDAF: 0.85 at 5e-4, 0.80 at 1e-3, 0.40 at 2e-3. RTMDet-tiny's is 0.15 at 5e-4.
LR, LR_OF_MIXING_DETECTORS = 5e-4, 2e-3


def to_demo(cfg: Config) -> None:
    """Turn an mmdet config into its demo, in place."""
    drop_pretrained(cfg)
    root = str(make_shapes(image_size=IMAGE_SIZE))
    with_mask = any(node.get("with_mask") for node in walk(cfg.train_dataloader))
    for node in walk(cfg.model):
        if "num_classes" in node:
            node.num_classes = len(CLASSES)
    fit_detector(cfg.model, IMAGE_SIZE)

    load: list[dict] = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True, with_mask=with_mask),
    ]
    resize = dict(type="Resize", scale=(IMAGE_SIZE, IMAGE_SIZE), keep_ratio=True)
    meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    train = [*load, resize, dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs")]
    test = [load[0], resize, load[1], dict(type="PackDetInputs", meta_keys=meta_keys)]

    training_set = partial(_dataset, root, "train2017")
    mixed, hooks = mixed_images(cfg, IMAGE_SIZE, MORE_EPOCHS, training_set, train) or (None, [])
    if mixed:
        batch_size, epochs, lr = BATCH_SIZE_OF_MIXING_DETECTORS, MORE_EPOCHS, LR_OF_MIXING_DETECTORS
    else:
        batch_size, epochs, lr = BATCH_SIZE, EPOCHS, LR
    cfg.train_dataloader = dataloader(batch_size, mixed or training_set(train), shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = dataloader(
        BATCH_SIZE, _dataset(root, "val2017", test), shuffle=False
    )
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(
        type="CocoMetric",
        ann_file=f"{root}/annotations/instances_val2017.json",
        metric=["bbox", "segm"] if with_mask else "bbox",
    )
    set_schedule(cfg, epochs, lr, hooks)


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="CocoDataset",
        data_root=root,
        ann_file=f"annotations/instances_{split}.json",
        data_prefix=dict(img=f"{split}/"),
        metainfo=dict(classes=CLASSES),
        test_mode=split != "train2017",
        pipeline=pipeline,
    )
