# The convolutions of VGG and its three linear layers, on what is left of 32x32 pixels: one place. ceil_mode
# keeps one where TDAF's smaller flows would have none.
model = dict(
    type="ImageClassifier",
    backbone=dict(type="VGG", depth=19, ceil_mode=True),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="StackedLinearClsHead",
        in_channels=512,
        mid_channels=[4096, 4096],
        dropout_rate=0.5,
        loss=dict(type="CrossEntropyLoss"),
    ),
)
