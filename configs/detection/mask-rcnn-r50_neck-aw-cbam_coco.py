_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"

model = dict(
    neck=dict(
        type="attn_mm.AttnFPN",
        attention=dict(type="attn_mm.CBAM", bias=True),
        conv_cfg=dict(type="attn_mm.AWConv2d"),
    )
)
# Two images make a poor batch for the norms inside the attention: all processes share theirs.
sync_bn = "torch"
