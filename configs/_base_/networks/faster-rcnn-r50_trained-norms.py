# The norms of the backbone train: the passes of TD and the flows of TDAF differ in their statistics.
_base_ = "../../detection/faster-rcnn-r50_plain_coco.py"

model = dict(backbone=dict(norm_eval=False))
sync_bn = "torch"
