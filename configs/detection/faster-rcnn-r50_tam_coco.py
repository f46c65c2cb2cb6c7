_base_ = "./faster-rcnn-r50_plain_coco.py"

# The stem and the first stage are frozen: what is grafted there would never train.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.TAM", stages=(1, 2, 3))],
    )
)
