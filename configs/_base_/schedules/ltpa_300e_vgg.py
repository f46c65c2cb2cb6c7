# LTPA, section A.3, for the VGGs. In Torch, which the paper uses, dampening is as large as momentum unless
# one says otherwise: the rate of 1 is what 0.1 is without it. The decay of the rate by 1e-7 an iteration,
# 1 % in all, is left out.
optim_wrapper = dict(optimizer=dict(type="SGD", lr=1.0, momentum=0.9, dampening=0.9, weight_decay=5e-4))
param_scheduler = dict(type="StepLR", by_epoch=True, step_size=25, gamma=0.5)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
