"""TAM on a ResNet-18 with a quarter of its channels: three epochs of every 16th image of CIFAR-10."""

_base_ = "../../configs/tam/r18_tam_300e_cifar10.py"

model = dict(backbone=dict(backbone=dict(stem_channels=16, base_channels=16)), head=dict(in_channels=128))
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    # Folders come class by class: every 16th image is of each class alike.
    dataset=dict(indices=list(range(0, 50000, 16))),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(indices=list(range(0, 10000, 5))))
test_dataloader = val_dataloader

# 189 steps: the learning rate rises to 0.05 in the first fifth, then falls to 0.
train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=38),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=38, end=189, T_max=151),
]
default_hooks = dict(checkpoint=dict(interval=3))
