_base_ = "./faster-rcnn-r50_neck-se_coco.py"

model = dict(neck=dict(conv_cfg=dict(type="attn_mm.AWConv2d")))
# Two images make a poor batch for the norms inside the attention: all processes share theirs.
sync_bn = "torch"
