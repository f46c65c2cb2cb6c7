model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.WideResNet", depth=16, widen_factor=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=512, loss=dict(type="CrossEntropyLoss")),
)
