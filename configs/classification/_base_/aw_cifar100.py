_base_ = ["./runtime.py", "./sets/cifar100.py", "./recipes/aw_cifar100.py"]
