_base_ = "./simplebaseline-r101_head-tdaf-anar3_140e_coco.py"

model = dict(head=dict(anar=5))
