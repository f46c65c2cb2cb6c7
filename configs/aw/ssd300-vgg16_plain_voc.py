_base_ = "mmdet::pascal_voc/ssd300_voc0712.py"
