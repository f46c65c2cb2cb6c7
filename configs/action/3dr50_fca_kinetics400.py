_base_ = "../tdaf/3dr50_plain_kinetics400.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(type="attn_mm.FCA", stages=(0,), size=28),
            dict(type="attn_mm.FCA", stages=(1,), size=14),
            dict(type="attn_mm.FCA", stages=(2, 3), size=7),
        ],
    )
)
