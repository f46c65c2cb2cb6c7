_base_ = ["../runtimes/classification.py", "../datasets/in1k-200.py", "../schedules/td_125e_in1k.py"]
