_base_ = ["./_base_/td_in1k.py", "./_base_/nets/r34.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
