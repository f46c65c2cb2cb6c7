# WS-DAN's model and schedule: SGD, batches of 16, the rate times 0.9 every 2 of 80 epochs.
_base_ = "mmpretrain::_base_/default_runtime.py"

model = dict(
    type="attn_mm.WSDAN",
    backbone=dict(
        type="ResNet",
        depth=50,
        out_indices=(3,),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    head=dict(type="attn_mm.WSDANHead", in_channels=2048, parts=32),
)

optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.001, momentum=0.9, weight_decay=1e-5))
param_scheduler = dict(type="StepLR", step_size=2, gamma=0.9, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=80, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
