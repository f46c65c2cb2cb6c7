"""TAM on a ResNet-18 with an eighth of its channels: two epochs of every 25th image of CIFAR-10."""

_base_ = "../../configs/tam/r18_tam_300e_cifar10.py"

model = dict(backbone=dict(backbone=dict(stem_channels=8, base_channels=8)), head=dict(in_channels=64))
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    # Folders come class by class: every 25th image is of each class alike.
    dataset=dict(indices=list(range(0, 50000, 25))),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(indices=list(range(0, 10000, 10)))
)
test_dataloader = val_dataloader

# 80 steps: the learning rate rises to 0.05 in the first fifth, then falls to 0.
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=16),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=16, end=80, T_max=64),
]
default_hooks = dict(checkpoint=dict(interval=2))
