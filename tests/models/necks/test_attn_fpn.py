"""The attention FPN computes lateral(att(x)) and output(att(x)), and stays mmdet's FPN."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from grafted import backward, shake
from layers import reference_aw, reference_gates
from layers.reference import leaves
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.layers import SE

pytest.importorskip("mmdet.models")

CHANNELS = [8, 12, 16]
WIDTH = 8
SIZES = [(11, 9), (5, 7), (3, 2)]
"""Odd ones, of which one is no half of another."""
SE_CFG = dict(type="attn_mm.SE", reduction=2, bias=True)
CBAM_CFG = dict(type="attn_mm.CBAM", reduction=2, bias=True, kernel_size=3)
AW = dict(conv_cfg=dict(type="attn_mm.AWConv2d", reduction=4))
EXTRA = {
    "max-pool": dict(),
    "on_input": dict(add_extra_convs="on_input", relu_before_extra_convs=True),
    "on_lateral": dict(add_extra_convs="on_lateral"),
    "on_output": dict(add_extra_convs="on_output", start_level=1),
}
EXACT = dict(rtol=0, atol=0)


def neck(kind="attn_mm.AttnFPN", **options):
    cfg = dict(type=kind, in_channels=CHANNELS, out_channels=WIDTH, num_outs=5)
    return MODELS.build({**cfg, **options})


def maps(batch=3, dtype=torch.float64):
    return [torch.randn(batch, c, *size, dtype=dtype) for c, size in zip(CHANNELS, SIZES)]


def part(params, prefix):
    return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}


def convolution(x, weight, bias, stride):
    """Sum over the taps, zeros around the map."""
    reach = weight.shape[-1] // 2
    height, width = x.shape[2:]
    padded = x.new_zeros(*x.shape[:2], height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = x
    out = bias[:, None, None]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            window = padded[:, :, i : i + height : stride, j : j + width : stride]
            out = out + torch.einsum("oc,nchw->nohw", weight[:, :, i, j], window)
    return out


def aw_convolution(x, params, stride):
    names = ("norm1", "norm2")
    affine = {name: part(params, f"attention.{name}.") for name in names}
    norms = {
        # The statistics that a norm starts with; in training they are not used.
        name: reference_aw.Norm(p["weight"], p["bias"], *start(len(p["weight"])), training=True)
        for name, p in affine.items()
    }
    kernel = params["weight"].shape
    padding = (kernel[2] // 2,) * 2
    return reference_aw.aw_conv(
        x, params, norms, (kernel[1], 1, 1), (stride, stride), padding, (1, 1), 1, "zeros"
    )


def start(channels):
    return torch.zeros(channels, dtype=torch.float64), torch.ones(channels, dtype=torch.float64)


def normalize(seen):
    mean, var = reference_gates.batch_statistics(seen)
    return (seen - mean) / (var + 1e-5) ** 0.5


def attend(x, params):
    if "spatial.0.weight" in params:
        return reference_gates.cbam(x, params, normalize)
    return reference_gates.se(x, params) if params else x


def nearest(x, size):
    """Pixel i of n shows pixel floor(i * m / n) of m."""
    rows, columns = ([i * m // n for i in range(n)] for m, n in zip(x.shape[2:], size))
    return x[:, :, rows][:, :, :, columns]


def pyramid(inputs, params, num_outs, start_level=0, add_extra_convs=None, relu_before_extra_convs=False):
    """Lin et al., Feature Pyramid Networks, CVPR 2017, section 3, with attention before each convolution.

    The levels above are every second pixel of the last one, or convolutions of stride 2 (RetinaNet).
    """

    def step(name, x, stride=1):
        own = part(params, f"{name}.")
        x, conv = attend(x, part(own, "attn.")), part(own, "conv.")
        if "attention.conv1.weight" in conv:
            return aw_convolution(x, conv, stride)
        return convolution(x, conv["weight"], conv["bias"], stride)

    used = inputs[start_level:]
    laterals = [step(f"lateral_convs.{i}", x) for i, x in enumerate(used)]
    for i in reversed(range(len(laterals) - 1)):
        laterals[i] = laterals[i] + nearest(laterals[i + 1], laterals[i].shape[2:])
    outs = [step(f"fpn_convs.{i}", x) for i, x in enumerate(laterals)]
    sources = dict(on_input=inputs[-1], on_lateral=laterals[-1], on_output=outs[-1])
    for i in range(len(outs), num_outs):
        if add_extra_convs is None:
            outs.append(outs[-1][:, :, ::2, ::2])
            continue
        first = i == len(laterals)
        source = sources[add_extra_convs] if first else outs[-1]
        if relu_before_extra_convs and not first:
            source = source * (source > 0)
        outs.append(step(f"fpn_convs.{i}", source, stride=2))
    return outs


@pytest.mark.parametrize(
    "options, extra",
    [
        (dict(), "max-pool"),
        (dict(attention=SE_CFG), "on_lateral"),
        (dict(attention=CBAM_CFG), "max-pool"),
        (AW, "on_output"),
        (dict(attention=SE_CFG, **AW), "on_input"),
        (dict(attention=CBAM_CFG, **AW), "on_output"),
    ],
    ids=["FPN", "SE-FPN", "CBAM-FPN", "AW-FPN", "AW-SE-FPN", "AW-CBAM-FPN"],
)
def test_formulas(options, extra):
    net = shake(neck(**options, **EXTRA[extra]).double())
    params = leaves(net)
    ours, theirs = maps(), []
    for x in ours:
        theirs.append(x.clone().requires_grad_())
        x.requires_grad_()
    found = net(ours)
    expected = [y.contiguous() for y in pyramid(theirs, params, num_outs=5, **EXTRA[extra])]
    close = dict(rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(list(found), expected, **close)
    backward(found)
    backward(expected)
    for x, y in zip(ours, theirs):
        torch.testing.assert_close(x.grad, y.grad, **close)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, params[name].grad, **close, msg=lambda m, n=name: f"{n}: {m}")
        assert p.grad.abs().max() > 1e-9, f"{name} has no gradient"


@pytest.mark.parametrize("attention", [None, SE_CFG, CBAM_CFG], ids=["none", "SE", "CBAM"])
def test_an_fpn_checkpoint_loads_and_the_new_keys_are_told(attention, log):
    plain, net = neck("mmdet.FPN"), neck(attention=attention)
    assert isinstance(net, type(plain)) and type(net).__name__ == "AttnFPN"
    own, theirs = net.state_dict(), plain.state_dict()
    assert theirs.keys() <= own.keys()
    assert all(".attn." in key for key in own.keys() - theirs.keys())
    if attention:
        heads = [f"{kind}.{i}.attn" for kind in ("lateral_convs", "fpn_convs") for i in range(3)]
        assert {key.rsplit(".attn.")[0] + ".attn" for key in own.keys() - theirs.keys()} == set(heads)
    load_state_dict(net, theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(net.state_dict()[key], value, **EXACT)
    said = [line for line in log if line.startswith("AttnFPN: 12 of")]
    assert len(said) == (1 if attention else 0)
    if attention:
        assert "new (fpn_convs.0.attn, " in said[0]
    x = maps(dtype=torch.float32)
    if attention is None:
        torch.testing.assert_close(net(x), plain(x), **EXACT)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_fpn_of_mmdet_makes_the_same_aw_fpn(training):
    ours, theirs = (neck(kind, **AW, **EXTRA["on_input"]) for kind in ("attn_mm.AttnFPN", "mmdet.FPN"))
    shake(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    x = maps(dtype=torch.float32)
    torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), **EXACT)


def test_attention_is_for_the_channels_that_the_convolution_takes():
    net = neck(attention=SE_CFG, add_extra_convs="on_input", start_level=1)
    widths = [m.attn.mlp[0].in_channels for m in (*net.lateral_convs, *net.fpn_convs)]
    assert widths == [12, 16, WIDTH, WIDTH, 16, WIDTH, WIDTH]


def test_any_layer_that_takes_in_channels():
    net = neck(attention=dict(type="mmdet.ContextBlock", ratio=0.5))
    assert type(net.lateral_convs[0].attn).__name__ == "ContextBlock"
    backward(net(maps(dtype=torch.float32)))
    assert type(neck(attention=dict(type=SE, reduction=2)).fpn_convs[2].attn) is SE


@pytest.mark.parametrize("attention", [None, SE_CFG], ids=["AW", "AW-SE"])
def test_starts_as_mmdet_starts_an_fpn(attention):
    """By Xavier, every convolution; the scale of those inside an attention its norms make up for."""
    net = neck(attention=attention, **AW)
    net.init_weights()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 6 * (3 if attention is None else 5)
    for conv in convs:
        taps = conv.kernel_size[0] ** 2
        bound = (6 / (taps * (conv.in_channels + conv.out_channels))) ** 0.5
        assert 0.6 * bound < conv.weight.abs().max() <= bound
        assert conv.bias is None or not conv.bias.any()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        assert (norm.weight == 1).all() and not norm.bias.any()


WHOLE = dict(attention=CBAM_CFG, **AW, **EXTRA["on_output"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies(again):
    net, x = shake(neck(**WHOLE)).eval(), maps(1, torch.float32)
    twin = again(net)
    assert type(twin) is type(net) and not {*net.parameters()} & {*twin.parameters()}
    torch.testing.assert_close(twin(x), net(x), **EXACT)


def test_synchronised_norms():
    net, x = shake(neck(**WHOLE)).eval(), maps(1, torch.float32)
    expected = net(x)
    plain = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in twin.modules()) == plain == 3 * 7
    torch.testing.assert_close(twin(x), expected, **EXACT)


@pytest.mark.parametrize(
    "training", [True, pytest.param(False, marks=pytest.mark.whole)], ids=["train", "eval"]
)
def test_compiles_in_one_graph(training):
    # Two levels have all kinds of convolutions and their sum.
    net = shake(neck(**WHOLE, in_channels=CHANNELS[:2], num_outs=3).double()).train(training)
    x = maps()[:2]
    twin = copy.deepcopy(net)
    torch._dynamo.reset()
    found, expected = torch.compile(twin, fullgraph=True, backend="aot_eager")(x), net(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    backward(found)
    backward(expected)
    for (name, p), q in zip(net.named_parameters(), twin.parameters()):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "attention, message",
    [
        ("attn_mm.SE", "a dict with a type, such as dict(type='attn_mm.SE'), got 'attn_mm.SE'"),
        ({}, "attention must be a dict with a type"),
        (dict(reduction=4), "attention must be a dict with a type"),
        ([SE_CFG], "attention must be a dict with a type"),
        (dict(type="attn_mm.Sea"), "attention attn_mm.Sea: no layer has this name; attn_mm has"),
        (dict(type="SE"), "attention SE: no layer has this name"),
        (dict(type="attn_mm.TD"), "no layer has this name; attn_mm has attn_mm.SE,"),
        (dict(type="attn_mm.TDAF"), "no layer has this name"),
        (dict(type="attn_mm.AWConv2d"), "a convolution can't be inserted as a layer: use conv_cfg"),
        (dict(type="attn_mm.SE", reduce=4), "SE: unknown option 'reduce'; expected one of reduction, bias"),
        (dict(type="attn_mm.SE", in_channels=8), "unknown option 'in_channels'; expected one of reduction"),
        (dict(type="attn_mm.SE", channels=8), "unknown option 'channels'; expected one of reduction, bias"),
        (dict(type="attn_mm.SE", reduction=99), "reduction must be in 1..8"),
        (dict(type="attn_mm.FCA"), "attention attn_mm.FCA: "),
    ],
    ids=str,
)  # fmt: skip
def test_bad_attention_is_told_in_one_line(attention, message):
    with pytest.raises(ConfigError) as caught:
        neck(attention=attention)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_option_is_told_with_those_there_are():
    message = "AttnFPN: unknown option 'atention'; expected one of attention, in_channels, "
    with pytest.raises(ConfigError, match=message) as caught:
        neck(atention=SE_CFG)
    assert "\n" not in str(caught.value)
