model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.ResNeXtCIFAR", depth=50, groups=32, width_per_group=4),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=2048, loss=dict(type="CrossEntropyLoss")),
)
