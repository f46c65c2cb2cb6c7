_base_ = "./r50-caffe_plain_90e_in1k.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.AWConv", convs=("conv2",)), dict(type="attn_mm.SE", bias=True)],
    )
)
