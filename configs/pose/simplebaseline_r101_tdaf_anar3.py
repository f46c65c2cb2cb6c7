_base_ = "./simplebaseline_r101.py"

model = dict(head=dict(type="attn_mm.TDAFHeatmapHead", flows=3, anar=3))
