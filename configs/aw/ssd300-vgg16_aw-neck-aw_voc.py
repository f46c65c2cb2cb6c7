_base_ = "./ssd300-vgg16_plain_voc.py"

# VGG16 has no norms: 14 convolutions of 3/2 times their weights would scale its features by some 300.
# The backbone's attention therefore starts near 0, the new layers' weights at 2/3 of theirs.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.AWConv", convs=("3x3",), start=0.02)],
    ),
    neck=dict(
        conv_cfg=dict(type="attn_mm.AWConv2d"),
        init_cfg=[dict(type="Xavier", layer="Conv2d", distribution="uniform", gain=2 / 3)],
    ),
)
