_base_ = "./fcos_tdaf_r101.py"

model = dict(backbone=dict(anar=5))
