_base_ = ["./_base_/aw_cifar100.py", "./_base_/nets/cifar_r50_caffe.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
