_base_ = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py"

# The towers' convolutions have biases, as in the FCOS authors' code and in the published counts.
model = dict(bbox_head=dict(conv_bias=True))

# As there, the shorter side is at any size from 640 to 800 pixels; mmdet's base has only the two.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=[(1333, 640), (1333, 800)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
