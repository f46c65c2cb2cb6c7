# Kinetics-400 as Hara, Kataoka & Satoh (CVPR 2018) show it to a 3D ResNet: 16 consecutive frames of 112x112.
open_video = dict(type="attn_mm.OpenVideo")
read_frames = dict(type="attn_mm.ReadFrames")
pack = [dict(type="FormatShape", input_format="NCTHW"), dict(type="PackActionInputs")]
center = [dict(type="Resize", scale=(-1, 112)), dict(type="CenterCrop", crop_size=112)]

train_pipeline = [
    open_video,
    dict(type="SampleFrames", clip_len=16),
    read_frames,
    # A corner or the centre, of a share of the short side: 1, 2^(-1/4), 2^(-1/2), 2^(-3/4) or 1/2.
    dict(type="MultiScaleCrop", input_size=112, scales=(1, 0.8409, 0.7071, 0.5946, 0.5), max_wh_scale_gap=0),
    dict(type="Resize", scale=(112, 112), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    *pack,
]
val_pipeline = [
    open_video,
    dict(type="SampleFrames", clip_len=16, num_clips=3, test_mode=True),
    read_frames,
    *center,
    *pack,
]
test_pipeline = [
    open_video,
    # The whole video in clips that don't overlap.
    dict(type="attn_mm.SampleWholeVideo", clip_len=16),
    read_frames,
    *center,
    *pack,
]

val_set = dict(
    type="VideoDataset",
    data_root="data/kinetics400",
    ann_file="kinetics400_val_list_videos.txt",
    data_prefix=dict(video="videos_val"),
    test_mode=True,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="VideoDataset",
        data_root="data/kinetics400",
        ann_file="kinetics400_train_list_videos.txt",
        data_prefix=dict(video="videos_train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**val_set, pipeline=val_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**val_set, pipeline=test_pipeline),
)
val_evaluator = dict(type="AccMetric")
test_evaluator = val_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
