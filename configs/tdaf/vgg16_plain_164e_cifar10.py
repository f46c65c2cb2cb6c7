_base_ = ["../_base_/recipes/tdaf_cifar10.py", "../_base_/networks/vgg16-cifar.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
optim_wrapper = dict(optimizer=dict(lr=0.01))  # as for mmpretrain's VGGs without norms
