_base_ = "./r18_plain_125e_in1k-200.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TD", mode="top", steps=2, distance=1, stages=(2, 3))],
    )
)
