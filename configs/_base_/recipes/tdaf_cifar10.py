_base_ = ["../runtimes/classification.py", "../datasets/cifar10.py", "../schedules/tdaf_350e_cifar10.py"]

train_dataloader = dict(batch_size=256)
