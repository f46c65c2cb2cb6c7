model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNeXt", depth=101, groups=32, width_per_group=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=2048, loss=dict(type="CrossEntropyLoss")),
)
