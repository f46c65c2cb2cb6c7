_base_ = "fcn-hr18s_plain_voc12aug.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.CBAM", outputs="all")],
    )
)
