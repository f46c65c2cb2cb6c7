_base_ = "rtmdet-tiny_plain_coco.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.TDAF",
        backbone={{_base_.model.backbone}},
        flows=3,
        anar=3,
    )
)
