_base_ = ["./_base_/ltpa_vgg_cub.py", "./_base_/nets/ltpa_vgg_pan.py"]

model = dict(backbone=dict(first_pool=5), head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
load_from = "work_dirs/ltpa_vgg_pan_cifar100/epoch_300.pth"
