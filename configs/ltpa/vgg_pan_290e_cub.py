_base_ = ["../_base_/recipes/ltpa_vgg_cub.py", "../_base_/networks/vgg_pan.py"]

model = dict(backbone=dict(first_pool=5), head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
load_from = "work_dirs/vgg_pan_300e_cifar100/epoch_300.pth"
