_base_ = "mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py"

# The towers' convolutions have biases, as in the FCOS authors' code and in the published counts.
model = dict(bbox_head=dict(conv_bias=True))
