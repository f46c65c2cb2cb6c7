_base_ = ["./_base_/tam_cifar10.py", "./_base_/nets/cifar_r101.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
