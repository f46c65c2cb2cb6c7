_base_ = ["../_base_/recipes/aw_cifar100.py", "../_base_/networks/r101-caffe-cifar.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
