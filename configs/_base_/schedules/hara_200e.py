# Of Hara, Kataoka & Satoh (CVPR 2018); epochs, batch and patience are their code's.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=200, val_interval=1)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-3))
param_scheduler = [
    dict(type="ReduceOnPlateauLR", monitor="acc/top1", rule="greater", factor=0.1, patience=10)
]
auto_scale_lr = dict(enable=False, base_batch_size=128)
