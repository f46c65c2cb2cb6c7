_base_ = "./in1k.py"

# As He et al. 2016: the shorter side at 256 to 480 pixels, a crop, and AlexNet's colour augmentation, whose
# principal components are in the order blue, green, red.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomChoiceResize", scales=list(range(256, 481)), resize_type="ResizeEdge", edge="short"),
    dict(type="RandomCrop", crop_size=224),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(
        type="Lighting",
        eigval=[55.4625, 4.7940, 1.1475],
        eigvec=[[-0.5836, -0.6948, 0.4203], [-0.5808, -0.0045, -0.8140], [-0.5675, 0.7192, 0.4009]],
        alphastd=0.1,
    ),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
