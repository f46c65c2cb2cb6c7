_base_ = [
    "mmaction::_base_/default_runtime.py",
    "../_base_/datasets/kinetics400_16x112.py",
    "../_base_/schedules/hara_200e.py",
]

model = dict(
    type="Recognizer3D",
    backbone=dict(type="attn_mm.HaraResNet3d", depth=50),
    cls_head=dict(type="I3DHead", num_classes=400, in_channels=2048, dropout_ratio=0, average_clips="prob"),
    # ActivityNet's mean, and no division.
    data_preprocessor=dict(
        type="ActionDataPreprocessor", mean=[114.7748, 107.7354, 99.475], std=[1, 1, 1], format_shape="NCTHW"
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
