_base_ = ["../_base_/recipes/tdaf_in1k.py", "../_base_/networks/vgg16.py"]
