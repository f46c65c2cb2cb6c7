_base_ = "./mobilenetv3_plain_125e_in1k-200.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="joint", hidden="paper", stages=(12, 13, 14))],
    )
)
