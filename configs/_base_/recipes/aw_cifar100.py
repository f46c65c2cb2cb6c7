_base_ = ["../runtimes/classification.py", "../datasets/cifar100.py", "../schedules/aw_200e_cifar100.py"]
