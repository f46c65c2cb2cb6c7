_base_ = "./cifar10.py"

# No augmentation; pixels in 0..1.
data_preprocessor = dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0])
train_pipeline = [dict(type="attn_mm.LoadImage"), dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(type="attn_mm.SVHN", data_root="data/svhn/", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type="attn_mm.SVHN", data_root="data/svhn/"))
test_dataloader = val_dataloader
