_base_ = ["./_base_/tdaf_cifar10.py", "./_base_/nets/cifar_r50.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
