_base_ = "./3dr50_kinetics400.py"

model = dict(backbone=dict(depth=18), cls_head=dict(in_channels=512))
