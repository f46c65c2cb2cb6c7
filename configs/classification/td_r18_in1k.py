_base_ = ["./_base_/td_in1k.py", "./_base_/nets/r18.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
