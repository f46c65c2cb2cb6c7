_base_ = "mmaction::recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="attn_mm.TDAF",
        backbone={{_base_.model.backbone}},
        flows=3,
        anar=5,
    )
)

read = [dict(type="attn_mm.OpenVideo"), dict(type="attn_mm.ReadFrames")]
train_pipeline = [read[0], _base_.train_pipeline[1], read[1], *_base_.train_pipeline[3:]]
val_pipeline = [read[0], _base_.val_pipeline[1], read[1], *_base_.val_pipeline[3:]]
test_pipeline = [read[0], _base_.test_pipeline[1], read[1], *_base_.test_pipeline[3:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
