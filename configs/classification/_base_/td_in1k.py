_base_ = ["./runtime.py", "./sets/in1k.py", "./recipes/td_in1k.py"]
