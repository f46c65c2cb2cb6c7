_base_ = ["./_base_/tam_cifar100.py", "./_base_/nets/cifar_r18.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
