_base_ = "./simplebaseline-r50_head-tdaf-anar3_140e_coco.py"

model = dict(head=dict(anar=5))
