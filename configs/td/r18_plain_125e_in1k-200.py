_base_ = ["../_base_/recipes/td_in1k-200.py", "../_base_/networks/r18.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
