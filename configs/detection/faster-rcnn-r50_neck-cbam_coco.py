_base_ = "./faster-rcnn-r50_plain_coco.py"

# With biases, as in the paper's SE- and CBAM-ResNets.
model = dict(neck=dict(type="attn_mm.AttnFPN", attention=dict(type="attn_mm.CBAM", bias=True)))
