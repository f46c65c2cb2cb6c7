_base_ = ["./_base_/ltpa_vgg_cifar10.py", "./_base_/nets/ltpa_vgg_pan.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
