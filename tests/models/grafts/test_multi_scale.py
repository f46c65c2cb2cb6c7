"""MultiScale is a plain backbone for each flow, as deep as eq. 1 says, with statistics of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from grafted import NARROW, backward, in_mode, shake
from layers import reference
from mmengine.registry import MODELS
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.layers import MFBN

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
VIDEO = dict(depth=18, base_channels=8, pretrained=None, pretrained2d=False, norm_eval=False)
BACKBONES = [
    ("mmpretrain.ResNet", dict(depth=18, **NARROW)),
    ("mmdet.ResNet", dict(depth=50, norm_eval=False, **NARROW)),
    ("mmpretrain.ResNet_CIFAR", dict(depth=18, **NARROW)),
    ("mmaction.ResNet3d", VIDEO),
]


def plain(backbone, stages: int = 4) -> nn.Module:
    kind, options = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    per_stage = dict(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1))
    if "3d" in kind:
        per_stage = dict(
            spatial_strides=(1, 2, 2, 2), temporal_strides=(1, 1, 1, 1), dilations=(1,) * 4, inflate=(1,) * 4
        )
    per_stage = {key: values[:stages] for key, values in per_stage.items()}
    return MODELS.build(dict(type=kind, num_stages=stages, out_indices=(stages - 1,), **per_stage, **options))


def build(backbone, flows: int = 3, **options) -> nn.Module:
    kind, own = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    cfg = dict(type=kind, **own, **options)
    return MODELS.build(
        dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=[dict(type="attn_mm.MultiScale", flows=flows)])
    )


@pytest.mark.parametrize(
    ("backbone", "training", "flows"),
    [*((backbone, True, 3) for backbone in BACKBONES), (BACKBONES[0], False, 3), (BACKBONES[0], True, 2)],
    ids=lambda b: f"{b[0]}{b[1]['depth']}" if isinstance(b, tuple) else str(b),
)
def test_is_a_plain_backbone_for_each_flow(backbone, training, flows):
    net = in_mode(shake(build(backbone, flows)).double(), training)
    state = copy.deepcopy(net.state_dict())
    images = torch.randn(2, 3, *((8, 33, 33) if "3d" in backbone[0] else (65, 49)), dtype=torch.float64)
    outputs, twins, maps = net(images), {}, []
    for n in range(flows, 0, -1):
        twins[n] = in_mode(plain(backbone, 4 - (flows - n)).double(), training)
        shapes = {key: value.shape for key, value in twins[n].state_dict().items()}
        assert shapes.keys() <= state.keys()
        twins[n].load_state_dict(
            {k: state[k] if state[k].shape == shape else state[k][n - 1] for k, shape in shapes.items()}
        )
        y = twins[n](images)
        maps.insert(0, y if isinstance(y, torch.Tensor) else y[-1])
        images = reference.down_sample(images)
    torch.testing.assert_close(list(outputs), maps, **TOLERANCE)
    backward(outputs)
    backward(maps)
    for name, p in net.named_parameters():
        grads = [dict(twin.named_parameters())[name].grad for twin in twins.values() if _has(twin, name)]
        assert grads, name
        torch.testing.assert_close(p.grad, sum(grads), **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    for name, norm in net.named_modules():
        if isinstance(norm, MFBN):
            for n, twin in twins.items():
                if _has(twin, f"{name}.weight"):
                    mean = twin.get_submodule(name).running_mean
                    torch.testing.assert_close(norm.running_mean[n - 1], mean, **TOLERANCE)


def _has(net: nn.Module, parameter: str) -> bool:
    return parameter in dict(net.named_parameters())


def test_with_cp_changes_nothing_but_memory():
    nets = [shake(build(BACKBONES[0], with_cp=with_cp)).double() for with_cp in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(2, 3, 33, 33, dtype=torch.float64, requires_grad=True)
    for net in nets:
        backward(net(x))
    for name, p in nets[0].named_parameters():
        torch.testing.assert_close(nets[1].get_parameter(name).grad, p.grad, **TOLERANCE)


def test_pooled_concat():
    maps = [
        torch.rand(2, c, *size, dtype=torch.float64) for c, size in ((3, (4, 5)), (2, (1, 2)), (1, (2, 3, 4)))
    ]
    (found,) = MODELS.build(dict(type="attn_mm.PooledConcat"))(maps)
    for image in range(2):
        expected = [sum(c.flatten().tolist()) / c.numel() for x in maps for c in x[image]]
        assert found[image].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    ("flows", "message"),
    [
        (1, r"flows must be a whole number in 2..4 \(the number of stages\), got 1$"),
        (5, "in 2..4 .* got 5$"),
    ],
)
def test_mistakes_are_named(flows, message):
    with pytest.raises(ConfigError, match=message):
        build(BACKBONES[0], flows)


def test_a_backbone_runs_in_flows_once():
    inner = dict(
        type="attn_mm.AttnBackbone",
        backbone=dict(type=BACKBONES[0][0], **BACKBONES[0][1]),
        grafts=[dict(type="attn_mm.MultiScale")],
    )
    with pytest.raises(ConfigError, match="the backbone already has MultiScale"):
        MODELS.build(dict(type="attn_mm.TDAF", backbone=inner))
