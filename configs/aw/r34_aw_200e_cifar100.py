_base_ = "./r34_plain_200e_cifar100.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.AWConv", convs=("conv1", "conv2"))],
    )
)
