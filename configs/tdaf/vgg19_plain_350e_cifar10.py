_base_ = ["../_base_/recipes/tdaf_cifar10.py", "../_base_/networks/vgg19-cifar.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
