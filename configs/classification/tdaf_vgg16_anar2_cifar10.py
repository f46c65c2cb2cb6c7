_base_ = "./tdaf_vgg16_cifar10.py"

model = dict(
    backbone=dict(_delete_=True, type="attn_mm.TDAF", backbone={{_base_.model.backbone}}, flows=3, anar=2)
)
