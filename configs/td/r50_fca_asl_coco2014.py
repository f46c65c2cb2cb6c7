_base_ = "./r50_plain_asl_coco2014.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[
            dict(type="attn_mm.FCA", stages=(0,), size=56),
            dict(type="attn_mm.FCA", stages=(1,), size=28),
            dict(type="attn_mm.FCA", stages=(2,), size=14),
            dict(type="attn_mm.FCA", stages=(3,), size=7),
        ],
    )
)
