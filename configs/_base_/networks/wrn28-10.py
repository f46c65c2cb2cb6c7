model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.WideResNet", depth=28, widen_factor=10),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=640, loss=dict(type="CrossEntropyLoss")),
)
