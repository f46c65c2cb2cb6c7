_base_ = ["./_base_/ltpa_rn_cifar10.py", "./_base_/nets/rn164_att2.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
