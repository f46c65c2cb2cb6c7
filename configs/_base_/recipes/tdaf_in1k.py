_base_ = ["../runtimes/classification.py", "../datasets/in1k_256_480.py", "../schedules/tdaf_120e_in1k.py"]
