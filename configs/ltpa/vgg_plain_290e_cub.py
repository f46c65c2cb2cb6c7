_base_ = ["../_base_/recipes/ltpa_vgg_cub.py", "../_base_/networks/vgg.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
load_from = "work_dirs/vgg_plain_300e_cifar100/epoch_300.pth"
