model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.MobileNetV1"),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=1024, loss=dict(type="CrossEntropyLoss")),
)
