model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.PreActResNet", depth=164, levels=(2, 3), dropout=(0.4, 0.5)),
    head=dict(type="attn_mm.LTPAHead", local_channels=[128, 256], global_channels=256),
)
