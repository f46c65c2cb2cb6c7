_base_ = "../tdaf/simplebaseline-r50_plain_210e_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.TDAF",
        backbone={{_base_.model.backbone}},
        flows=3,
        anar=3,
    )
)
