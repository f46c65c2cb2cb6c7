_base_ = "./ssd300-vgg16_plain_voc.py"

# Attention on each of the six maps that the detections come from.
model = dict(
    neck=dict(
        _delete_=True,
        type="attn_mm.AttnNeck",
        neck={{_base_.model.neck}},
        grafts=[dict(type="attn_mm.CBAM", outputs="all", bias=True)],
    )
)
