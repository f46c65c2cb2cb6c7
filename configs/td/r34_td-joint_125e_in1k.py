_base_ = "./r34_plain_125e_in1k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="joint", steps=2, distance=1, stages=(2, 3))],
    )
)
