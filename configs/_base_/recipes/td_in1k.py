_base_ = ["../runtimes/classification.py", "../datasets/in1k.py", "../schedules/td_90e_in1k.py"]
