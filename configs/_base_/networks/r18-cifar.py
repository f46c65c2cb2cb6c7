model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet_CIFAR", depth=18),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=512, loss=dict(type="CrossEntropyLoss")),
)
