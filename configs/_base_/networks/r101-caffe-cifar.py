# Strides in the 1x1 convolutions: of these are the published multiply-adds.
model = dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet_CIFAR", depth=101, style="caffe"),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=2048, loss=dict(type="CrossEntropyLoss")),
)
