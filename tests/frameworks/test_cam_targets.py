"""What class activation maps explain: every framework's targets, and the layers that are looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from small import detection_config, faster_rcnn_config, pose_config

import attn_mm
from attn_mm.errors import UserError
from attn_mm.frameworks.mmaction.cam_target import action_target
from attn_mm.frameworks.mmdet.cam_target import box_target
from attn_mm.frameworks.mmpose.cam_target import keypoint_target
from attn_mm.frameworks.mmpretrain.cam_target import class_target
from attn_mm.maps.cam_layers import default_layers
from attn_mm.maps.grad_cam import class_activation_maps

pytest.importorskip("pytorch_grad_cam")


def build(cfg: dict, scope: str) -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
    model.eval()
    return model


def classifier(grafts=(), head="LinearClsHead", **backbone) -> torch.nn.Module:
    net = dict(type="ResNet_CIFAR", depth=18, base_channels=4, stem_channels=4, **backbone)
    if grafts:
        net = dict(type="attn_mm.AttnBackbone", backbone=net, grafts=list(grafts))
    head = dict(type=head, in_channels=32, num_classes=5)
    return build(
        dict(type="ImageClassifier", backbone=net, neck=dict(type="GlobalAveragePooling"), head=head),
        "mmpretrain",
    )


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With norms that change something, and no two alike."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@pytest.mark.parametrize("distance", [1, 2])
def test_a_feedback_block_has_a_map_for_each_step(distance):
    model = shaken(
        classifier([dict(type="attn_mm.TD", steps=3, distance=distance, stages=(-1,), reduction=4)])
    )
    model.double()
    inputs = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    layers = default_layers(model)
    names = [f"layer{i}" for i in (1, 2, 3)] + [f"layer4 step {t}" for t in (1, 2, 3)] + ["layer4"]
    assert list(layers) == names
    found = class_activation_maps(class_target(model, inputs, [4, 2]), layers)

    # The last block by hand.
    block, backbone = model.backbone.layer4[1], model.backbone
    x = backbone.relu(backbone.norm1(backbone.conv1(inputs)))
    for name in ("layer1", "layer2", "layer3"):
        x = getattr(backbone, name)(x)
    x = backbone.layer4[0](x)
    convs, norms = [block.conv1, block.conv2], [block.norm1, block.norm2]
    bottom = x if distance == 2 else norms[0](convs[0](x)).relu()
    tops = []
    for step in range(3):
        if step:
            bottom = block.td.attention(bottom, tops[-1])
        step_norms = block.td.norms[step - 1] if step else dict(conv1=norms[0], conv2=norms[1])
        y = step_norms["conv1"](convs[0](bottom)).relu() if distance == 2 else bottom
        tops.append(step_norms["conv2"](convs[1](y)))
    scores = model.head((tops[-1].add(x).relu().mean((2, 3)),))
    gradients = torch.autograd.grad(scores[0, 4] + scores[1, 2], tops)
    for step, (top, gradient) in enumerate(zip(tops, gradients), 1):
        weighted = (gradient.mean((2, 3), keepdim=True) * top).sum(1)
        (by_tool,) = found[f"layer4 step {step}"]
        np.testing.assert_allclose(by_tool, weighted.clamp_min(0).detach(), rtol=0, atol=1e-10)


def test_flows_have_a_map_each():
    net = dict(type="ResNet_CIFAR", depth=18, base_channels=4, stem_channels=4)
    tdaf = dict(type="attn_mm.TDAF", backbone=net, anar=3, flows=3)
    model = build(
        dict(
            type="ImageClassifier",
            backbone=tdaf,
            neck=dict(type="GlobalAveragePooling"),
            head=dict(type="MultiLabelLinearClsHead", in_channels=32, num_classes=5),
        ),
        "mmpretrain",
    )
    found = class_activation_maps(class_target(model, torch.randn(1, 3, 32, 32), 3), default_layers(model))
    sizes = {name: [each.shape[1:] for each in maps] for name, maps in found.items()}
    assert sizes["layer1"] == [(8, 8), (16, 16), (32, 32)]
    assert sizes["layer4"] == [(4, 4)]


@pytest.fixture(scope="module")
def detectors(tmp_path_factory) -> dict[str, torch.nn.Module]:
    root = tmp_path_factory.mktemp("detectors")
    models = {}
    for name, make in (("dense", detection_config), ("two-stage", faster_rcnn_config)):
        models[name] = model = build(make(root).model, "mmdet")
        for key, parameter in model.named_parameters():
            if "head" in key:
                torch.nn.init.normal_(parameter, std=0.1)
    return models


@pytest.mark.parametrize("kind", ["dense", "two-stage"])
def test_a_detectors_boxes_are_those_that_it_predicts(detectors, kind):
    from mmdet.structures import DetDataSample

    model, inputs = detectors[kind], torch.randn(1, 3, 64, 64)
    meta = dict(img_shape=(64, 48), ori_shape=(64, 48), scale_factor=(1, 1), batch_input_shape=(64, 64))
    with torch.no_grad():
        (sample,) = model.predict(inputs, [DetDataSample(metainfo=meta)], rescale=False)
    expected = sample.pred_instances
    assert len(expected) > 3
    valid = (1.0, 0.75)
    for index in (0, 3):
        value = box_target(model, inputs, index, valid)()
        assert value.item() == pytest.approx(expected.scores[index].item(), rel=1e-5)
    with pytest.raises(UserError, match=f"there is no box {len(expected)}: the model predicts"):
        box_target(model, inputs, len(expected), valid)()

    maps = class_activation_maps(box_target(model, inputs, 0, valid), default_layers(model))
    assert list(maps) == ["layer1", "layer2", "layer3", "layer4"]
    assert any(each.any() for calls in maps.values() for each in calls)


def test_a_dense_heads_scores_can_be_differentiated(detectors):
    model, inputs = detectors["dense"].double(), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    direction, step = torch.randn_like(inputs), 1e-6
    (gradient,) = torch.autograd.grad(box_target(model, inputs.requires_grad_(), 0)(), inputs)
    with torch.no_grad():
        above, below = (box_target(model, inputs + s * direction, 0)() for s in (step, -step))
    slope = (gradient * direction).sum().item()
    assert slope == pytest.approx((above - below).item() / (2 * step), rel=1e-5)


def test_a_keypoints_target_is_the_maximum_of_its_heatmap(tmp_path):
    model = build(pose_config(tmp_path).model, "mmpose")
    inputs = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        heatmaps = model(inputs, None, mode="tensor")
        expected = sum(heatmap[5].max() for heatmap in heatmaps)
        assert keypoint_target(model, inputs, 5)() == expected
    (found,) = class_activation_maps(keypoint_target(model, inputs, 5), default_layers(model))["layer1"]
    assert found.shape == (2, 16, 8)
    with pytest.raises(UserError, match="no keypoint 17: the model knows 0 to 16"):
        keypoint_target(model, inputs, 17)()


def test_a_keypoints_target_of_simcc_is_the_smaller_maximum_of_its_axes():
    class SimCC(torch.nn.Module):
        def forward(self, inputs, data_samples, mode):
            return inputs[:, :, 0], inputs[:, :, 1]

    inputs = torch.randn(2, 17, 2, 40)
    expected = sum(min(axis.max() for axis in axes[5]) for axes in inputs)
    assert keypoint_target(SimCC(), inputs, 5)() == expected


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (dict(type="mmpretrain.HRNet", arch="w18"), [f"stage4.2.branches.{branch}" for branch in range(4)]),
        (dict(type="mmpretrain.EfficientNet", arch="b0"), [f"layers.{stage}" for stage in range(7)]),
        (
            dict(
                type="mmaction.ResNet3dSlowFast",
                pretrained=None,
                slow_pathway=dict(type="resnet3d", depth=18, pretrained=None, lateral=True),
                fast_pathway=dict(type="resnet3d", depth=18, pretrained=None, lateral=False, base_channels=8),
            ),
            [f"{path}_path.layer{stage}" for path in ("slow", "fast") for stage in range(1, 5)],
        ),
        (
            dict(
                type="attn_mm.AttnBackbone",
                backbone=dict(type="mmpretrain.TIMMBackbone", model_name="resnet18", features_only=True),
                grafts=[dict(type="attn_mm.TD")],
            ),
            [f"timm_model.layer4.1{step}" for step in (" step 1", " step 2", "")],
        ),
    ],
    ids=["HRNet", "EfficientNet", "SlowFast", "timm"],
)
def test_the_layers_of_networks_of_every_kind(net, expected):
    if "TIMM" in str(net):
        pytest.importorskip("timm")
    for scope in ("mmpretrain", "mmaction"):
        pytest.importorskip(f"{scope}.models")
    assert list(default_layers(MODELS.build(net))) == expected


def test_a_graft_is_no_last_layer():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(16, 16, 3))
    assert list(default_layers(net)) == ["1"]
    assert list(default_layers(attn_mm.attach(net, [dict(type="SE", after="1")]))) == ["1"]


def test_an_actions_target_is_its_score():
    net = dict(type="ResNet3d", depth=18, base_channels=4, pretrained=None, pretrained2d=False)
    net.update(conv1_kernel=(3, 3, 3), conv1_stride_t=1, pool1_stride_t=1, norm_eval=False)
    cfg = dict(
        type="Recognizer3D", backbone=net, cls_head=dict(type="I3DHead", in_channels=32, num_classes=5)
    )
    model = build(cfg, "mmaction")
    clips = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = torch.cat([model.backbone(clip[None]) for clip in clips])
        scores = model.cls_head.fc_cls(features.mean((2, 3, 4)))
        assert action_target(model, clips, 3)().item() == pytest.approx(scores[:, 3].sum().item(), rel=1e-5)
    (found,) = class_activation_maps(action_target(model, clips, 3), default_layers(model))["layer2"]
    assert found.shape == (2, 2, 4, 4)
    with pytest.raises(UserError, match="no class 5: the model knows 0 to 4"):
        action_target(model, clips, 5)()


def test_a_backbone_without_stages_gives_its_groups_or_its_last_convolution():
    vgg = build(dict(type="attn_mm.VGGAtt", levels=(2, 3)), "mmpretrain")
    assert list(default_layers(vgg)) == [f"groups.{i}" for i in range(5)]
    features = build(dict(type="VGG", depth=11), "mmpretrain")
    layers = default_layers(features)
    assert [type(layer).__name__ for layer in layers.values()] == ["ConvModule"] * 5
    assert [layer.out_channels for layer in layers.values()] == [64, 128, 256, 512, 512]
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1), torch.nn.ReLU())
    assert list(default_layers(plain)) == ["1"]
    with pytest.raises(UserError, match="Linear has no convolution"):
        default_layers(torch.nn.Linear(1, 1))
