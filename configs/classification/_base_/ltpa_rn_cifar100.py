_base_ = ["./runtime.py", "./sets/cifar100.py", "./recipes/ltpa_rn.py"]

train_dataloader = dict(batch_size=64)
