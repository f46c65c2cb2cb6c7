_base_ = ["./runtime.py", "./sets/svhn.py", "./recipes/ltpa_vgg_svhn.py"]
