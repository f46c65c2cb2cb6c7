_base_ = "./vgg_ltpa-att2-concat-pc_300e_cifar10.py"

# As cifar.torch normalises images. The numbers are those of U and V over the training set.
data_preprocessor = dict(
    _delete_=True,
    type="attn_mm.LocalContrast",
    num_classes=10,
    mean=[-4.3066, 2.3579],
    std=[13.6632, 17.0675],
    to_rgb=True,
)
