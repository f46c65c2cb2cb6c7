_base_ = "./simplebaseline-r50_plain_140e_coco.py"

model = dict(head=dict(type="attn_mm.TDAFHeatmapHead", flows=3, anar=3))
