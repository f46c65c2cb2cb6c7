_base_ = "mmseg::fcn/fcn_r50-d8_4xb4-40k_voc12aug-512x512.py"
