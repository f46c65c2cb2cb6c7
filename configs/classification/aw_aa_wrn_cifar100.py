_base_ = ["./_base_/aw_cifar100.py", "./_base_/nets/aa_wrn10_10.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
