_base_ = "mmaction::recognition/slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py"

read = [dict(type="attn_mm.OpenVideo"), dict(type="attn_mm.ReadFrames")]
train_pipeline = [read[0], _base_.train_pipeline[1], read[1], *_base_.train_pipeline[3:]]
val_pipeline = [read[0], _base_.val_pipeline[1], read[1], *_base_.val_pipeline[3:]]
test_pipeline = [read[0], _base_.test_pipeline[1], read[1], *_base_.test_pipeline[3:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
