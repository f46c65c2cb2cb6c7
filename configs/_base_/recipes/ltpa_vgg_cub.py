_base_ = ["../runtimes/classification.py", "../datasets/cub_80.py", "../schedules/ltpa_290e_vgg_cub.py"]
