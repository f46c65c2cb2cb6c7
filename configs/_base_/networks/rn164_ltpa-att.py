model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.PreActResNet", depth=164, levels=(3,)),
    head=dict(type="attn_mm.LTPAHead", local_channels=[256], global_channels=256),
)
