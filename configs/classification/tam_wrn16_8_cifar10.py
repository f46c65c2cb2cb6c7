_base_ = ["./_base_/tam_cifar10.py", "./_base_/nets/wrn16_8.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
