_base_ = "../tdaf/fcos-r50_plain_trained-norms_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="joint", stages=(2, 3))],
    )
)
