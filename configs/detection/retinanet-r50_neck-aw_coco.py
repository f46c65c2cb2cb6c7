_base_ = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"

model = dict(neck=dict(type="attn_mm.AttnFPN", conv_cfg=dict(type="attn_mm.AWConv2d")))
# Two images make a poor batch for the norms inside the attention: all processes share theirs.
sync_bn = "torch"
