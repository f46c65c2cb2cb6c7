_base_ = "./fcos-r50_plain_coco.py"

model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron/resnet101_caffe"),
    )
)
