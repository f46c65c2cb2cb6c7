_base_ = "./r50_plain_120e_in1k.py"

# mmcv's global context block, as mmdet's GCNet has it.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="mmengine.ContextBlock", ratio=1 / 16, stages=(1, 2, 3))],
    )
)
