_base_ = ["./_base_/ltpa_vgg_svhn.py", "./_base_/nets/ltpa_vgg_gap.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
