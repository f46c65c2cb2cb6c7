_base_ = "./fcos-r101_plain_coco.py"

# The norms of the backbone train: the flows of TDAF differ in their statistics, and the
# parameter counts of the paper's table 4 include the norms.
model = dict(backbone=dict(norm_cfg=dict(requires_grad=True), norm_eval=False))
sync_bn = "torch"
