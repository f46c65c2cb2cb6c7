model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.ResNeXtCIFAR", depth=29, groups=8, width_per_group=64),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=1024, loss=dict(type="CrossEntropyLoss")),
)
