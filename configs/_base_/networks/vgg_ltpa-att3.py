model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.VGGAtt", levels=(1, 2, 3)),
    head=dict(type="attn_mm.LTPAHead", local_channels=[256, 512, 512], global_channels=512),
)
