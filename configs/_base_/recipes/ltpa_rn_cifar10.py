_base_ = ["../runtimes/classification.py", "../datasets/cifar10.py", "../schedules/ltpa_200e_rn164.py"]

train_dataloader = dict(batch_size=64)
