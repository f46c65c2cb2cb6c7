_base_ = "./simplebaseline-r50_plain_210e_coco.py"

# SimplePose (Xiao et al. 2018), section 4.1: Adam, batches of 128, a tenth at epochs 90 and 120; scales of
# 30 %, and no half bodies and shifts.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[90, 120], gamma=0.1)]
train_cfg = dict(max_epochs=140)
auto_scale_lr = dict(base_batch_size=128)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="RandomFlip", direction="horizontal"),
    # Its rotations are normal with a deviation of 40 degrees, cut at 80: mmpose's default.
    dict(type="RandomBBoxTransform", shift_prob=0.0, scale_factor=(0.7, 1.3)),
    dict(type="TopdownAffine", input_size={{_base_.codec.input_size}}),
    dict(type="GenerateTarget", encoder={{_base_.codec}}),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
