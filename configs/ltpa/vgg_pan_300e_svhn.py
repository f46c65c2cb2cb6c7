_base_ = ["../_base_/recipes/ltpa_vgg_svhn.py", "../_base_/networks/vgg_pan.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
