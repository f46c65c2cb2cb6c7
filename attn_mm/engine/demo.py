"""``--demo``: any detection config on generated images, small and short enough for a CPU.

The model stays as configured, but for its number of classes; it starts from
scratch, with nothing frozen. The schedule was chosen so that FCOS with a ResNet-50 and TDAF learns the
set on two CPU cores within ten minutes.
"""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.shapes import CLASSES, make_shapes
from attn_mm.engine.configs import drop_pretrained, walk
from attn_mm.errors import UserError

IMAGE_SIZE = 96
BATCH_SIZE = 8
EPOCHS = 10
WARMUP_ITERATIONS = 100


def to_demo(cfg: Config) -> None:
    """Turn a detection config into its demo, in place.

    Raises:
        UserError: the config is not a detection config.
    """
    if cfg.get("default_scope") != "mmdet":
        raise UserError(f"--demo works on detection configs (default_scope 'mmdet'), not on {cfg.filename}")
    drop_pretrained(cfg)
    size = _input_size(cfg.model)
    root = str(make_shapes(image_size=size))
    with_mask = any(node.get("with_mask") for node in walk(cfg.train_dataloader))
    for node in walk(cfg.model):
        if "num_classes" in node:
            node.num_classes = len(CLASSES)

    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True, with_mask=with_mask)]
    resize = dict(type="Resize", scale=(size, size), keep_ratio=True)
    meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    train = [*load, resize, dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs")]
    test = [load[0], resize, load[1], dict(type="PackDetInputs", meta_keys=meta_keys)]

    cfg.train_dataloader = _dataloader(root, "train2017", train, shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = _dataloader(root, "val2017", test, shuffle=False)
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(
        type="CocoMetric",
        ann_file=f"{root}/annotations/instances_val2017.json",
        metric=["bbox", "segm"] if with_mask else "bbox",
    )
    cfg.train_cfg = ConfigDict(type="EpochBasedTrainLoop", max_epochs=EPOCHS, val_interval=5)
    cfg.optim_wrapper = ConfigDict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05, fused=True),
        paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
        clip_grad=dict(max_norm=35),
    )
    cfg.param_scheduler = [
        ConfigDict(type="LinearLR", start_factor=0.1, by_epoch=False, end=WARMUP_ITERATIONS),
        ConfigDict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, T_max=EPOCHS),
    ]
    cfg.custom_hooks = []
    cfg.default_hooks.logger.interval = 20
    cfg.default_hooks.checkpoint = ConfigDict(type="CheckpointHook", interval=1, max_keep_ckpts=1)
    cfg.randomness = dict(seed=0)


def _input_size(model: ConfigDict) -> int:
    """The one size that a model's anchors are made for (SSD), or the demo's."""
    sizes = [node.input_size for node in walk(model) if isinstance(node.get("input_size"), int)]
    return sizes[0] if sizes else IMAGE_SIZE


def _dataloader(root: str, split: str, pipeline: list[dict], shuffle: bool) -> ConfigDict:
    return ConfigDict(
        batch_size=BATCH_SIZE,
        # A worker would take a core from the few that a demo's machine may have.
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=shuffle),
        dataset=dict(
            type="CocoDataset",
            data_root=root,
            ann_file=f"annotations/instances_{split}.json",
            data_prefix=dict(img=f"{split}/"),
            metainfo=dict(classes=CLASSES),
            test_mode=not shuffle,
            pipeline=pipeline,
        ),
    )
