_base_ = ["../_base_/recipes/ltpa_rn_cifar100.py", "../_base_/networks/rn164_ltpa-att.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
