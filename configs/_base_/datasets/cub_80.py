_base_ = "./cifar10.py"

# Cropped by the annotated boxes and resized, flipped; pixels in 0..1.
data_preprocessor = dict(num_classes=200, mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0])
load = [
    dict(type="LoadImageFromFile"),
    dict(type="attn_mm.CropToBox"),
    dict(type="Resize", scale=(80, 80), keep_ratio=False),
]
train_pipeline = [*load, dict(type="RandomFlip", prob=0.5, direction="horizontal"), dict(type="PackInputs")]
test_pipeline = [*load, dict(type="PackInputs")]
train_dataloader = dict(
    dataset=dict(type="attn_mm.CUBBoxes", data_root="data/CUB_200_2011/", pipeline=train_pipeline)
)
val_dataloader = dict(
    dataset=dict(type="attn_mm.CUBBoxes", data_root="data/CUB_200_2011/", pipeline=test_pipeline)
)
test_dataloader = val_dataloader
