_base_ = ["../_base_/recipes/tdaf_in1k.py", "../_base_/networks/rx101.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
