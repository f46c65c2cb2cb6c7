_base_ = ["../runtimes/classification.py", "../datasets/svhn.py", "../schedules/tam_160e.py"]
