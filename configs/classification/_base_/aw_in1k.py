_base_ = ["./runtime.py", "./sets/in1k.py", "./recipes/aw_in1k.py"]
