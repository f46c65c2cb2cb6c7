_base_ = "./faster_rcnn_r50_fpn.py"

# With biases, as in the paper's SE- and CBAM-ResNets.
model = dict(neck=dict(type="attn_mm.AttnFPN", attention=dict(type="attn_mm.CBAM", bias=True)))
