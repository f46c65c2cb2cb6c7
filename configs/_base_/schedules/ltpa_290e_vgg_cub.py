_base_ = "./ltpa_300e_vgg.py"

# 0.1 for 30 epochs, doubled twice over the next 60, then halved every 30 for 200.
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=True, milestones=[30, 60], gamma=2.0),
    dict(type="MultiStepLR", by_epoch=True, milestones=list(range(90, 290, 30)), gamma=0.5),
]
train_cfg = dict(max_epochs=290)
