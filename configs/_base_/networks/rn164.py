model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.PreActResNet", depth=164),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=256, loss=dict(type="CrossEntropyLoss")),
)
