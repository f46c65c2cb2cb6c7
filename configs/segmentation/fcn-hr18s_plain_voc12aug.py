_base_ = "mmseg::hrnet/fcn_hr18s_4xb4-40k_voc12aug-512x512.py"
