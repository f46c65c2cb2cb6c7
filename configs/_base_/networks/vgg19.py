model = dict(
    type="ImageClassifier",
    backbone=dict(type="VGG", depth=19, num_classes=1000),
    head=dict(type="ClsHead", loss=dict(type="CrossEntropyLoss")),
)
