_base_ = "./r50_plain_120e_in1k.py"

model = dict(
    backbone=dict(_delete_=True, type="attn_mm.TDAF", backbone={{_base_.model.backbone}}, flows=3, anar=5)
)
