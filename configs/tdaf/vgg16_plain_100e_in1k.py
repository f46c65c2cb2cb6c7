_base_ = ["../_base_/recipes/tdaf_in1k.py", "../_base_/networks/vgg16.py"]

optim_wrapper = dict(optimizer=dict(lr=0.01))  # as for mmpretrain's VGGs without norms
