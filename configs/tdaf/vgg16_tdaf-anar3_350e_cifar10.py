_base_ = "./vgg16_plain_350e_cifar10.py"

model = dict(
    backbone=dict(_delete_=True, type="attn_mm.TDAF", backbone={{_base_.model.backbone}}, flows=3, anar=3)
)
