_base_ = "./r50_plain_asl_coco2014.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(type="attn_mm.TD", mode="top", distance=3, stages=(2, 3), blocks=((0, 1, 2, 3, 4), "all")),
        ],
    )
)
