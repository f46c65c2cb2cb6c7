_base_ = ["./runtime.py", "./sets/cifar100.py", "./recipes/tam_300e.py"]
