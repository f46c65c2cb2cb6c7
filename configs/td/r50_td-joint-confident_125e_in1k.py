_base_ = "./r50_td-joint_125e_in1k.py"

# Trains with each image's most confident step, as the text says; the authors' code trains with the last one
# by default.
model = dict(type="attn_mm.ConfidentStep")
