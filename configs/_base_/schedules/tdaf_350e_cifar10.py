# TDAF names no settings for CIFAR-10. Its plain figures are, digit for digit, those of a public code base
# (github.com/kuangliu/pytorch-cifar), whose settings these are, with TDAF's batch of 256.
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.0005))
param_scheduler = dict(type="MultiStepLR", by_epoch=True, milestones=[150, 250], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=350, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=256)
