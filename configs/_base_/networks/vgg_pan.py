model = dict(
    type="ImageClassifier",
    backbone=dict(type="attn_mm.VGGPAN"),
    head=dict(type="attn_mm.LTPAHead", local_channels=[512], global_channels=512),
)
