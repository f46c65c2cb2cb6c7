_base_ = ["../_base_/recipes/aw_in1k.py", "../_base_/networks/r50-caffe.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
