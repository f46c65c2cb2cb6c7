_base_ = "../tdaf/simplebaseline-r50_plain_210e_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.SE")],
    )
)
