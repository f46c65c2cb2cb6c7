"""Attention in necks and heads: FCOS as a whole, and a part of each kind."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from attn_mm.describe.counting import weightless
from attn_mm.describe.without_attention import without_attention
from attn_mm.errors import ConfigError
from attn_mm.utils.config import load_config, model_part

pytest.importorskip("mmdet.models")

SE = dict(type="attn_mm.SE")
FCOS = "configs/fcos_tdaf_r50.py"


def fcos(**parts):
    """FCOS with a narrow ResNet-18, neck and head."""
    cfg = load_config(FCOS)
    cfg.model.backbone = dict(type="mmdet.ResNet", depth=18, base_channels=8, stem_channels=8)
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=3)
    for name, (wrapper, inner, grafts) in parts.items():
        part = cfg.model[name]
        cfg.model[name] = dict(type=f"attn_mm.{wrapper}", grafts=grafts, **{inner: part})
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(copy.deepcopy(cfg.model))


NECK = ("AttnNeck", "neck", [dict(**SE, outputs="all"), dict(type="attn_mm.AWConv", convs="fpn_convs.*")])
HEAD = ("AttnHead", "head", [dict(**SE, after="*_convs.*"), dict(type="attn_mm.CBAM", after="cls_convs.0")])


def test_a_detector_learns_with_attention_in_neck_and_head():
    torch.manual_seed(0)
    cfg = fcos(neck=NECK, bbox_head=HEAD)
    plain, model = build(fcos()), build(cfg)
    assert model.state_dict().keys() > plain.state_dict().keys()
    assert (
        type(model.neck).__name__ == "AttnAttendedFPN"
        and model.bbox_head.train_cfg is plain.bbox_head.train_cfg
    )
    model.train()
    features = model.extract_feat(torch.randn(2, 3, 128, 128))
    scores, boxes, centres = model.bbox_head(features)
    sum(y.square().sum() for y in (*scores, *boxes, *centres)).backward()
    new = set(model.state_dict()) - set(plain.state_dict())
    lost = [name for name, p in model.named_parameters() if name in new and p.grad is None]
    assert lost == []


def test_the_plain_network_is_found_again():
    cfg = without_attention(fcos(neck=NECK, bbox_head=HEAD))
    assert cfg.model == fcos().model
    assert model_part(fcos(bbox_head=HEAD), "bbox_head").num_classes == 3
    assert model_part(fcos(), "head") == {}


REFUSED = {
    "head outputs": (
        "bbox_head",
        ("AttnHead", "head", [dict(**SE, outputs="all")]),
        "returns several tensors",
    ),
    "no place": ("neck", ("AttnNeck", "neck", [dict(SE)]), "FPN has no residual blocks"),
    "pattern": ("neck", ("AttnNeck", "neck", [dict(**SE, after="fpn_conv.*")]), "its parts are fpn_convs"),
    "no grafts": ("neck", ("AttnNeck", "neck", []), "grafts must be a non-empty list"),
}


@pytest.mark.parametrize("name, part, reason", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(name, part, reason):
    with pytest.raises(ConfigError) as error:
        build(fcos(**{name: part}))
    assert reason in str(error.value)


PARTS = {
    "rpn": ("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "rpn_head", dict(**SE, after="rpn_conv")),
    "mask": (
        "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
        "roi_head.mask_head",
        dict(**SE, after="convs.3"),
    ),
    "rtmdet": (
        "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
        "bbox_head",
        dict(**SE, reduction=8, after="cls_convs.*.*"),
    ),
    "rtmpose": (
        "mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py",
        "head",
        dict(type="attn_mm.AWConv", convs="final_layer"),
    ),
    "heatmap": (
        "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
        "head",
        dict(**SE, after="deconv_layers"),
    ),
}


# RTMPose's last convolution has wide kernels, and its attention takes seconds.
EACH_PART = [
    pytest.param(*part, id=key, marks=pytest.mark.whole if key == "rtmpose" else ())
    for key, part in PARTS.items()
]


@pytest.mark.parametrize("config, name, graft", EACH_PART)
def test_heads_of_every_kind(config, name, graft):
    scope = config.partition("::")[0]
    pytest.importorskip(f"{scope}.models")
    head = load_config(config).model
    for key in name.split("."):
        head = head[key]
    with DefaultScope.overwrite_default_scope(scope):
        built = MODELS.build(dict(type="attn_mm.AttnHead", head=head, grafts=[graft]))
    assert built.attn_mm.modules


def test_a_neck_whose_class_does_not_tell_its_input():
    """SSD's keeps no ``in_channels``, and makes a weight by itself where weights are left out."""
    config = dict(
        type="SSDNeck",
        in_channels=(8, 16),
        out_channels=(8, 16, 12, 4),
        level_strides=(2, 1),
        level_paddings=(1, 0),
    )
    graft = dict(type="attn_mm.SE", outputs="all", reduction=2)
    with DefaultScope.overwrite_default_scope("mmdet"):
        plain = MODELS.build(config)
        neck = MODELS.build(dict(type="attn_mm.AttnNeck", neck=config, grafts=[graft]))
        with weightless():
            light = MODELS.build(dict(type="attn_mm.AttnNeck", neck=config, grafts=[graft]))
    assert all(p.is_meta for n, p in light.named_parameters() if n.startswith("attn_outputs"))
    plain.init_weights()  # until then the scale of its norm is whatever lay in memory
    neck.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 8, 20, 20), torch.randn(2, 16, 10, 10)
    maps, gated = plain(x), neck(x)
    assert [m.shape[1] for m in gated] == [8, 16, 12, 4]
    for place, (before, after) in enumerate(zip(maps, gated)):
        assert torch.allclose(after, neck.attn_outputs[str(place)](before)) and not torch.equal(after, before)
