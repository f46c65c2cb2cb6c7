_base_ = "../tdaf/3dr50_plain_kinetics400.py"

model = dict(backbone=dict(depth=18), cls_head=dict(in_channels=512))
