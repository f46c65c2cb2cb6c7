_base_ = ["./runtime.py", "./sets/cub_80.py", "./recipes/ltpa_vgg_cub.py"]
