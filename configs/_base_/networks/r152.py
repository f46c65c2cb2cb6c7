model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet", depth=152),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=2048, loss=dict(type="CrossEntropyLoss")),
)
