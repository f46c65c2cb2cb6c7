_base_ = "./r50_plain_120e_in1k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.MultiScale", flows=3)],
    ),
    neck=dict(_delete_=True, type="attn_mm.PooledConcat"),
    head=dict(in_channels=512 + 1024 + 2048),
)
