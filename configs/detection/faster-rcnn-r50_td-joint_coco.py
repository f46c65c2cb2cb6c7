_base_ = "../_base_/networks/faster-rcnn-r50_trained-norms.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="joint", stages=(2, 3))],
    )
)
