_base_ = "./ssd300-vgg16_cbam-neck-cbam_voc.py"

# As in ssd300-vgg16_aw-neck-aw_voc.py, which says why.
model = dict(
    backbone=dict(
        grafts=[
            dict(type="attn_mm.AWConv", convs=("3x3",), start=0.02),
            dict(type="attn_mm.CBAM", outputs="all", bias=True),
        ]
    ),
    neck=dict(
        neck=dict(
            conv_cfg=dict(type="attn_mm.AWConv2d"),
            init_cfg=[dict(type="Xavier", layer="Conv2d", distribution="uniform", gain=2 / 3)],
        )
    ),
)
