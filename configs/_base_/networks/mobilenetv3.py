model = dict(
    type="ImageClassifier",
    backbone=dict(type="MobileNetV3", arch="large"),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="StackedLinearClsHead",
        in_channels=960,
        mid_channels=[1280],
        dropout_rate=0.2,
        act_cfg=dict(type="HSwish"),
        loss=dict(type="CrossEntropyLoss"),
    ),
)
