_base_ = "./ltpa_300e_vgg.py"

optim_wrapper = dict(optimizer=dict(lr=0.1))
