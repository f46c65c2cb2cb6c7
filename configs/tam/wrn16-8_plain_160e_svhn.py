_base_ = ["../_base_/recipes/tam_svhn.py", "../_base_/networks/wrn16-8.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
