_base_ = "./mobilenetv3_plain_125e_in1k.py"

# In place of the SE of the last three blocks.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="top", steps=2, distance=1, stages=(12, 13, 14))],
    )
)
