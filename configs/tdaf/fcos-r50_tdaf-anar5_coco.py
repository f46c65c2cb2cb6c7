_base_ = "../fcos_tdaf_r50.py"

model = dict(backbone=dict(anar=5))
