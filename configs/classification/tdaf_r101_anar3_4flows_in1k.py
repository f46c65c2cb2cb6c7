_base_ = "./tdaf_r101_in1k.py"

model = dict(
    backbone=dict(_delete_=True, type="attn_mm.TDAF", backbone={{_base_.model.backbone}}, flows=4, anar=3)
)
