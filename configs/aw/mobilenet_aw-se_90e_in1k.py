_base_ = "./mobilenet_plain_90e_in1k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(type="attn_mm.AWConv", convs=("pointwise",)),
            dict(type="attn_mm.SE", bias=True, position="after_depthwise"),
            dict(type="attn_mm.SE", bias=True, position="after_pointwise"),
        ],
    )
)
