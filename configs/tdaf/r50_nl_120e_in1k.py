_base_ = "./r50_plain_120e_in1k.py"

# mmcv's non-local block (Wang et al. 2018) behind layer 3; the paper doesn't say where and how many.
model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.AttnBackbone",
        backbone={{_base_.model.backbone}},
        grafts=[dict(type="mmengine.NonLocal2d", mode="embedded_gaussian", after="layer3")],
    )
)
