# The text says 28-10; the published parameters are those of 10-10 (attn_mm/models/backbones/wide_resnet.py).
model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="attn_mm.WideResNet",
        depth=10,
        widen_factor=10,
        strides=(1, 1, 2),
        aa=dict(dk=0.2, dv=0.1, heads=8, qkv_kernel_size=3),
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=640, loss=dict(type="CrossEntropyLoss")),
)
