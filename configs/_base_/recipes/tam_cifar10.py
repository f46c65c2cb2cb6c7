_base_ = ["../runtimes/classification.py", "../datasets/cifar10.py", "../schedules/tam_300e.py"]
