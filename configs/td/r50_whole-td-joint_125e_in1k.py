_base_ = "./r50_plain_125e_in1k.py"

# One TD block over the whole network, from its last map to the image: the paper's section 3 finds it worse.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.WholeTD", mode="joint", steps=2)],
    )
)
