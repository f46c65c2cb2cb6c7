_base_ = ["./_base_/ltpa_vgg_cub.py", "./_base_/nets/ltpa_vgg.py"]

model = dict(head=dict(num_classes={{_base_.data_preprocessor.num_classes}}))
load_from = "work_dirs/ltpa_vgg_cifar100/epoch_300.pth"
