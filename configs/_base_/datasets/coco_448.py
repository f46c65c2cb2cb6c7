# COCO 2017 as a multi-label set, at the ASL authors' size and augmentation (docs/multilabel.md).
data_preprocessor = dict(
    num_classes=80,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(448, 448), keep_ratio=False),
    dict(type="Cutout", shape=224, pad_val=128, prob=1.0),
    dict(
        type="RandAugment",
        policies="timm_increasing",
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
    ),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(448, 448), keep_ratio=False),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="attn_mm.CocoLabels",
        data_root="data/coco/",
        ann_file="annotations/instances_train2017.json",
        data_prefix="train2017/",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="attn_mm.CocoLabels",
        data_root="data/coco/",
        ann_file="annotations/instances_val2017.json",
        data_prefix="val2017/",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Per class, then overall, at the usual threshold; overall again at that of the ASL authors' scripts.
val_evaluator = [
    dict(type="AveragePrecision"),
    dict(type="MultiLabelMetric", thr=0.5, average="macro"),
    dict(type="MultiLabelMetric", thr=0.5, average="micro"),
    dict(type="MultiLabelMetric", thr=0.8, average="micro"),
]
test_evaluator = val_evaluator
