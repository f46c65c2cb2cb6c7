_base_ = ["../_base_/recipes/ltpa_rn_cifar10.py", "../_base_/networks/rn164.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
