_base_ = ["../runtimes/classification.py", "../datasets/svhn.py", "../schedules/ltpa_300e_vgg_svhn.py"]
