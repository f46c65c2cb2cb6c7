# The ASL authors' schedule: one cycle over 80 epochs, of which the first 40 are trained.
optim_wrapper = dict(
    optimizer=dict(type="Adam", lr=1e-4, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = dict(
    type="OneCycleLR", eta_max=1e-4, pct_start=0.2, by_epoch=True, begin=0, end=80, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)

# Evaluated as averaged and as trained.
custom_hooks = [
    dict(type="EMAHook", momentum=3e-4, update_buffers=True, evaluate_on_origin=True, priority="ABOVE_NORMAL")
]
