_base_ = ["./runtime.py", "./sets/svhn.py", "./recipes/tam_160e.py"]
