"""A config of each framework, its backbone's lines changed, trains one step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from small import narrow, shorten
from torch import nn

GRAFTS = """[
    dict(type="attn_mm.TD"),
    dict(type="attn_mm.CBAM", position="after_conv2"),
    dict(type="attn_mm.AWConv", stages=(-1,)),
]"""
FLOWS = """[dict(type="attn_mm.TDAF", width=64), dict(type="attn_mm.TAM")]"""


def mmdet_inputs():
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, 128, 128], [3, 125, 130]])


def mmpose_inputs():
    from mmpose.testing import get_packed_inputs

    return get_packed_inputs(2)


def mmaction_inputs():
    from mmaction.structures import ActionDataSample

    clips = [torch.randint(0, 256, (1, 3, 8, 64, 64), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=clips, data_samples=[ActionDataSample().set_gt_label(i) for i in range(2)])


def mmaction_frames():
    data = mmaction_inputs()
    data["inputs"] = [torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    return data


def mmpretrain_inputs():
    from mmpretrain.structures import DataSample

    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i) for i in range(2)])


TSN = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
CONFIGS = {
    "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py": mmdet_inputs,
    "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py": mmdet_inputs,
    "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py": mmpose_inputs,
    "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py": mmaction_inputs,
    f"mmaction::recognition/tsn/{TSN}": mmaction_frames,
    "mmpretrain::resnet/resnet50_8xb32_in1k.py": mmpretrain_inputs,
}


PAIRS = [
    pytest.param(
        base,
        grafts,
        id=f"{Path(base).stem.split('_8xb')[0]}-{name}",
        # Alike in one network of each framework; configs/ has detectors of two stages.
        marks=pytest.mark.whole if "faster" in base or (grafts is FLOWS and TSN in base) else (),
    )
    for base in CONFIGS
    for name, grafts in (("TD-CBAM-AW", GRAFTS), ("TDAF-TAM", FLOWS))
]


@pytest.mark.parametrize("base, grafts", PAIRS)
def test_trains_one_step(base, grafts, tmp_path, monkeypatch):
    scope = base.partition("::")[0]
    pytest.importorskip(f"{scope}.models")
    path = tmp_path / "config.py"
    path.write_text(
        f"_base_ = {base!r}\n"
        "model = dict(backbone=dict(_delete_=True, type='attn_mm.AttnBackbone',\n"
        "    backbone={{_base_.model.backbone}}, grafts=" + grafts + "))\n"
    )
    model = Config.fromfile(path).model
    model.backbone.backbone.pop("pretrained", None)
    shorten(model, scope, monkeypatch)
    narrow(model, scope)
    with DefaultScope.overwrite_default_scope(scope):
        net = MODELS.build(model)
        assert isinstance(net.backbone, nn.Module) and net.backbone.attn_mm.modules
        net.train()
        data = net.data_preprocessor(CONFIGS[base](), training=True)
        losses = net(**data, mode="loss")
    loss, _ = net.parse_losses(losses)
    assert loss.isfinite()
    loss.backward()
    for key, p in net.named_parameters():
        if p.requires_grad:
            assert p.grad is not None and p.grad.isfinite().all(), key
