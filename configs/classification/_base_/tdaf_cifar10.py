_base_ = ["./runtime.py", "./sets/cifar10.py", "./recipes/tdaf_cifar.py"]

train_dataloader = dict(batch_size=256)
