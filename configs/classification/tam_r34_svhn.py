_base_ = ["./_base_/tam_svhn.py", "./_base_/nets/cifar_r34.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
