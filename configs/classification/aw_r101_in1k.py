_base_ = ["./_base_/aw_in1k.py", "./_base_/nets/r101_caffe.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
