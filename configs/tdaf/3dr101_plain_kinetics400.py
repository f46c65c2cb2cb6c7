_base_ = "./3dr50_plain_kinetics400.py"

model = dict(backbone=dict(depth=101))
