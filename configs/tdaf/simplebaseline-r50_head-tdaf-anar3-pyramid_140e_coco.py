_base_ = "./simplebaseline-r50_head-tdaf-anar3_140e_coco.py"

# Each flow of the head has its own pass through the backbone, on its own copy of the image.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="attn_mm.FlowPyramid", flows=3)],
    ),
    head=dict(flow_inputs="pyramid"),
)
