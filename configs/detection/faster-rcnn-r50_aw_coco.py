_base_ = "./faster-rcnn-r50_plain_coco.py"

# The stem and the first stage are frozen: what is grafted there would never train.
# The norms keep their statistics, which are those of the pretrained weights, not of 3/2 times them.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.AWConv", convs=("conv2",), stages=(1, 2, 3), start=0.02)],
    )
)
