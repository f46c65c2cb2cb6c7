_base_ = "./3dr50_tdaf-anar5_kinetics400.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.Inflated",
        backbone={{_base_.model.backbone}},
        pretrained="torchvision://resnet50",
    ),
    # The pictures that the weights know.
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
