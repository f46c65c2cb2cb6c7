"""WholeTD is a plain backbone for each step, on the image that the step before has modulated."""

from __future__ import annotations

import copy

import pytest
import torch
from grafted import NARROW, backward, in_mode, shake
from layers import reference_td
from mmengine.registry import MODELS
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.early_stop import feedback_steps, stopped_after
from attn_mm.layers.step_norm import StepBN

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
RESNET = ("mmpretrain.ResNet", dict(depth=18, **NARROW))
VIDEO = (
    "mmaction.ResNet3d",
    dict(depth=18, base_channels=8, pretrained=None, pretrained2d=False, norm_eval=False),
)


def build(backbone=RESNET, others=(), **options) -> nn.Module:
    kind, own = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    grafts = [*others, dict(type="attn_mm.WholeTD", **options)]
    return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=dict(type=kind, **own), grafts=grafts))


def last(maps):
    return maps if isinstance(maps, torch.Tensor) else maps[-1]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("backbone", "options", "size"),
    [
        # At one position, norms of two samples would magnify rounding a billion times.
        (RESNET, dict(steps=3), (33, 40)),
        (VIDEO, dict(mode="top", reduction=8, spatial="sigmoid"), (4, 16, 16)),
    ],
    ids=["images", "videos"],
)
def test_is_a_plain_backbone_for_each_step(backbone, options, size, training):
    net = in_mode(shake(build(backbone, **options)).double(), training)
    state, steps = copy.deepcopy(net.state_dict()), options.get("steps", 2)
    x = images = torch.randn(2, 3, *size, dtype=torch.float64)
    found = net(images)
    attention = {k: v.detach().requires_grad_() for k, v in net.td.named_parameters()}
    twins = []
    for step in range(steps):
        kind, own = backbone
        twins.append(in_mode(MODELS.build(dict(type=kind, **own)).double(), training))
        shapes = {key: value.shape for key, value in twins[-1].state_dict().items()}
        assert {key for key in state if not key.startswith("td.")} == shapes.keys()
        twins[-1].load_state_dict(
            {k: state[k] if state[k].shape == shape else state[k][step] for k, shape in shapes.items()}
        )
        maps = twins[-1](x)
        x = reference_td.attend(attention, x, last(maps), options.get("spatial", "raw"))[2]
    torch.testing.assert_close(last(found), last(maps), **TOLERANCE)
    backward(found)
    backward(maps)
    for name, p in net.named_parameters():
        if name.startswith("td."):
            expected = attention[name.removeprefix("td.")].grad
        else:
            grads = [twin.get_parameter(name).grad for twin in twins]
            expected = sum(grads) if grads[0].shape == p.shape else torch.stack(grads)
        # Gradients grow over the steps.
        torch.testing.assert_close(p.grad, expected, rtol=1e-8, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    for name, norm in net.named_modules():
        if isinstance(norm, StepBN):
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                own = torch.stack([getattr(twin.get_submodule(name), key) for twin in twins])
                torch.testing.assert_close(getattr(norm, key), own, **TOLERANCE)


def test_a_plain_checkpoint_gives_each_step_its_norms():
    upstream, net = shake(MODELS.build(dict(type=RESNET[0], **RESNET[1]))), build()
    missing, unexpected = net.load_state_dict(upstream.state_dict(), strict=False)
    assert not unexpected and all(key.startswith("td.") for key in missing)
    for key in ("weight", "bias", "running_mean", "running_var"):
        rows, own = getattr(net.bn1, key), getattr(upstream.bn1, key)
        assert all(torch.equal(row, own) for row in rows) and len(rows) == 2
    twin = build()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.bn1.weight, net.bn1.weight)


def test_synchronized_and_frozen_norms_keep_their_steps():
    net = shake(build()).double()
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    assert {type(m).__name__ for m in twin.modules() if isinstance(m, StepBN)} == {"StepSyncBN"}
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(twin(x), net(x), **TOLERANCE)
    frozen = shake(build(("mmpretrain.ResNet", dict(RESNET[1], frozen_stages=1)))).train()
    before = frozen.bn1.running_mean.clone()
    backward(frozen(x.float()))
    assert torch.equal(frozen.bn1.running_mean, before) and not frozen.bn1.weight.requires_grad
    assert frozen.layer4[0].bn1.weight.grad.any(1).tolist() == [True, True]


@torch.no_grad()
def test_it_stops_after_a_step():
    net = shake(build(steps=3)).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert feedback_steps(net) == 3
    with stopped_after(net, 1):
        first = net(x)[-1]
        assert feedback_steps(net) == 1
    plain = in_mode(MODELS.build(dict(type=RESNET[0], **RESNET[1])).double(), False)
    state = net.state_dict()
    plain.load_state_dict(
        {k: state[k] if state[k].shape == v.shape else state[k][0] for k, v in plain.state_dict().items()}
    )
    torch.testing.assert_close(first, plain(x)[-1], **TOLERANCE)
    assert feedback_steps(net) == 3 and not torch.allclose(net(x)[-1], first)


def test_other_grafts_go_in_before():
    others = [dict(type="attn_mm.SE"), dict(type="attn_mm.TD"), dict(type="attn_mm.AWConv")]
    net = shake(build(others=others)).train()
    backward(net(torch.randn(2, 3, 32, 32)))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=1), r"steps must be a whole number of at least 2 \(one step is the plain backbone\)"),
        (dict(hidden="paper"), r"reduction must be in 1..3 \(the channels it reduces\), got 16"),
        (dict(others=[dict(type="attn_mm.TDAF")]), "only one of attn_mm.TDAF, attn_mm.WholeTD"),
        (
            dict(backbone=("mmpretrain.VGG", dict(depth=11, num_classes=3, norm_cfg=dict(type="BN")))),
            "VGG returns no map, which WholeTD feeds back: graft onto a backbone",
        ),
    ],
    ids=["steps", "hidden", "others", "classifier"],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)
