model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.VGG"),
    head=dict(type="LinearClsHead", in_channels=512, loss=dict(type="CrossEntropyLoss")),
)
