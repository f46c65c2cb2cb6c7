_base_ = ["./runtime.py", "./sets/cifar10.py", "./recipes/tam_300e.py"]
