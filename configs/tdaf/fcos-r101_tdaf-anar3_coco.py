_base_ = "./fcos-r101_plain_trained-norms_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.TDAF",
        backbone={{_base_.model.backbone}},
        flows=3,
        anar=3,
    )
)
