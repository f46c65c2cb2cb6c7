_base_ = "./simplebaseline_r50_tdaf_anar3.py"

model = dict(head=dict(anar=5))
