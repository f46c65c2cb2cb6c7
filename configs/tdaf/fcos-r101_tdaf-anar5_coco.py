_base_ = "./fcos-r101_tdaf-anar3_coco.py"

model = dict(backbone=dict(anar=5))
