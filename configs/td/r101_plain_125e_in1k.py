_base_ = ["../_base_/recipes/td_in1k.py", "../_base_/networks/r101.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
