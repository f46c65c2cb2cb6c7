"""mmdet's detectors train and predict on the ops: whatever of them a config reaches is there."""

from __future__ import annotations

import pytest
import torch
from thinned import thinned

pytest.importorskip("mmdet")
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from torchvision.ops import box_iou

CONFIGS = {
    "FCOS": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "RetinaNet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "SSD": "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py",
    "Faster R-CNN": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "Mask R-CNN with DCN": "dcn/mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py",
    "Faster R-CNN with DCNv2": "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
}
SHAPE = (3, 96, 80)


def make_detector(name: str):
    """The config's model, made thin, from scratch and with few proposals."""
    config = get_config(f"mmdet::{CONFIGS[name]}").model
    config.backbone.init_cfg = None
    if config.backbone.type == "ResNet":
        config.backbone.update(base_channels=16, frozen_stages=-1, norm_eval=False)
        config.neck.in_channels = [64, 128, 256, 512]
    if "roi_head" in config:
        config.train_cfg.rcnn.sampler.num = 32
        config.train_cfg.rpn_proposal.max_per_img = 50
        config.test_cfg.rpn.max_per_img = 50
    # Untrained scores are low: let every box through to the suppression.
    final = config.test_cfg.get("rcnn", config.test_cfg)
    final.update(score_thr=0.0, max_per_img=20)
    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = MODELS.build(config)
    detector.init_weights()
    return detector, final.nms.iou_threshold


@pytest.mark.parametrize("name", thinned(CONFIGS, ["FCOS", "SSD", "Mask R-CNN with DCN"]))
def test_detector_trains_and_predicts(device, name):
    detector, threshold = make_detector(name)
    detector.to(device).train()
    # The second image has no object.
    inputs = demo_mm_inputs(
        2, [SHAPE, SHAPE], num_items=[3, 0], num_classes=80, with_mask=True, device=device
    )
    data = detector.data_preprocessor(inputs, training=True)
    losses, _ = detector.parse_losses(detector(**data, mode="loss"))
    losses.backward()
    assert losses.isfinite()
    grads = {key: parameter.grad for key, parameter in detector.named_parameters() if parameter.requires_grad}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert any(grad.any() for key, grad in grads.items() if key.startswith("backbone."))

    detector.eval()
    with torch.no_grad():
        results = detector(**detector.data_preprocessor(inputs, training=False), mode="predict")
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert 0 < len(found) <= 20
        assert found.bboxes.isfinite().all()
        assert (found.scores.diff() <= 0).all()
        overlap = box_iou(found.bboxes, found.bboxes).fill_diagonal_(0)
        same = found.labels[:, None] == found.labels
        assert overlap[same].max() <= threshold
        if "Mask" in name:
            assert found.masks.shape == (len(found), *result.ori_shape[:2])
