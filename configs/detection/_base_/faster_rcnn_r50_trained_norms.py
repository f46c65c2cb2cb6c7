# The norms of the backbone train: the passes of TD and the flows of TDAF differ in their statistics.
_base_ = "../faster_rcnn_r50_fpn.py"

model = dict(backbone=dict(norm_eval=False))
sync_bn = "torch"
