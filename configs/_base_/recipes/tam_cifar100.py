_base_ = ["../runtimes/classification.py", "../datasets/cifar100.py", "../schedules/tam_300e.py"]
