_base_ = [
    "mmpretrain::_base_/default_runtime.py",
    "../_base_/datasets/coco_448.py",
    "../_base_/schedules/asl.py",
]

model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="ResNet",
        depth=50,
        out_indices=(3,),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="MultiLabelLinearClsHead",
        num_classes=80,
        in_channels=2048,
        loss=dict(type="AsymmetricLoss", gamma_pos=0.0, gamma_neg=4.0, clip=0.05),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
