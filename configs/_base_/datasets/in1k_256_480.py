_base_ = "./in1k.py"

# The shorter side at 256 to 480 pixels, then a crop.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomChoiceResize", scales=list(range(256, 481)), resize_type="ResizeEdge", edge="short"),
    dict(type="RandomCrop", crop_size=224),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
