_base_ = ["./runtime.py", "./sets/in1k_256_480.py", "./recipes/tdaf_in1k.py"]
