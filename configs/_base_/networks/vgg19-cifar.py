# With norms, which TDAF replaces by its own, and one linear layer, as in the public code base whose figures
# TDAF prints. ceil_mode keeps one position of 32x32 pixels where TDAF's smaller flows would have none.
model = dict(
    type="ImageClassifier",
    backbone=dict(type="VGG", depth=19, norm_cfg=dict(type="BN"), ceil_mode=True),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=512, loss=dict(type="CrossEntropyLoss")),
)
