_base_ = "mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py"

# mmaction publishes X3D's tests. The training is that of the paper (https://arxiv.org/abs/2004.04730), for 64
# videos a step instead of 1024.
read = [dict(type="attn_mm.OpenVideo"), dict(type="attn_mm.ReadFrames")]
train_pipeline = [
    read[0],
    dict(type="SampleFrames", clip_len=13, frame_interval=6, num_clips=1, target_fps=30),
    read[1],
    dict(type="RandomRescale", scale_range=(182, 228)),
    dict(type="RandomCrop", size=160),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
val_pipeline = [
    read[0],
    dict(type="SampleFrames", clip_len=13, frame_interval=6, num_clips=1, target_fps=30, test_mode=True),
    read[1],
    dict(type="Resize", scale=(-1, 182)),
    dict(type="CenterCrop", crop_size=182),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
test_pipeline = [read[0], _base_.test_pipeline[1], read[1], *_base_.test_pipeline[3:]]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="VideoDataset",
        ann_file="data/kinetics400/kinetics400_train_list_videos.txt",
        data_prefix=dict(video="data/kinetics400/videos_train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VideoDataset",
        ann_file="data/kinetics400/kinetics400_val_list_videos.txt",
        data_prefix=dict(video="data/kinetics400/videos_val"),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(type="AccMetric")

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=256, val_interval=5)
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=34, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", T_max=256, eta_min=0, by_epoch=True, begin=0, end=256),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
