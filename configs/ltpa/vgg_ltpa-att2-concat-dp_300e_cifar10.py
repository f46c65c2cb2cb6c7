_base_ = ["../_base_/recipes/ltpa_vgg_cifar10.py", "../_base_/networks/vgg_ltpa-att2.py"]

model = dict(
    head=dict(num_classes={{_base_.data_preprocessor.num_classes}}, compatibility="dp", combine="concat")
)
