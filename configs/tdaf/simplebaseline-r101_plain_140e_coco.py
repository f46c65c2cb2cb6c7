_base_ = "./simplebaseline-r50_plain_140e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint="torchvision://resnet101")))
