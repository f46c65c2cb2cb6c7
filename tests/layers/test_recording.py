"""What is recorded of a layer is its paper's formula, and recording changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from layers import reference_aw, reference_gates, reference_ltpa, reference_td
from layers.reference import leaves
from layers.test_aw_conv import build as build_aw
from layers.test_r2dns import build as build_flows
from layers.test_r2dns import naive
from torch import nn

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AAConv2d, LearnToPayAttention, ProgressiveGate
from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.recording import Attention, AttentionKind, record_attention
from attn_mm.layers.td import TopDownAttention

TOLERANCE = dict(rtol=1e-11, atol=1e-12)
SIZES = {2: (5, 6), 3: (3, 2, 5)}


def recorded(layer, *inputs):
    """What a network of one layer is found to attend to, and its output."""
    with record_attention(layer.eval()) as maps:
        output = layer(*inputs)
    return maps, output


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64)


def gate_of(formula, x):
    """What a layer of one gate multiplies each value of x by."""
    return formula(x) / x


def assert_gate(found, expected):
    """The gate ``(N, C or 1, ...)`` is what multiplies every value ``(N, C, *size)``."""
    torch.testing.assert_close(found.expand_as(expected), expected, **TOLERANCE)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["SE", "ECA", "FCA"])
def test_channel_gates(name, dims):
    layer = {"SE": SE(32, 4, dims=dims), "ECA": ECA(32, dims=dims), "FCA": FCA(32, 4, dims=dims)}[name]
    layer, x = reference_gates.randomize(layer), noise(2, 32, *SIZES[dims])
    params = leaves(layer)
    formula = {
        "SE": lambda x: reference_gates.se(x, params),
        "ECA": lambda x: reference_gates.eca(x, params),
        "FCA": lambda x: reference_gates.fca(x, params, 7),
    }[name]
    ((attention,), output) = recorded(layer, x)
    assert attention.kind.over == "channels" and attention.kind.name == f"{name} gate"
    assert attention.values.shape[:2] == (2, 32) and attention.values.numel() == 64
    assert_gate(attention.values, gate_of(formula, x))
    torch.testing.assert_close(output, formula(x), **TOLERANCE)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_cbam(dims, spatial):
    layer = reference_gates.randomize(CBAM(8, 2, spatial=spatial, dims=dims))
    x, params = noise(2, 8, *SIZES[dims]), leaves(layer)
    maps, _ = recorded(layer, x)
    channels = gate_of(lambda x: reference_gates.cbam(x, params, None, spatial=False), x)
    assert [item.kind.over for item in maps] == ["channels", "positions"][: 1 + spatial]
    assert_gate(maps[0].values, channels)
    if spatial:
        norm = layer.spatial[1]

        def normalised(seen):
            return (seen - norm.running_mean) / (norm.running_var + norm.eps).sqrt()

        both = gate_of(lambda x: reference_gates.cbam(x, params, normalised), x)
        assert maps[1].values.shape == (2, 1, *SIZES[dims])
        assert_gate(maps[1].values, both / channels)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("slow", [True, False])
def test_tam(dims, slow):
    layer = reference_gates.randomize(TAM(12, dims=dims))
    x = noise(2, 12, *SIZES[dims])
    if slow:
        with as_written():
            ((attention,), _) = recorded(layer, x)
    else:
        ((attention,), _) = recorded(layer, x)
    expected = reference_gates.tam_gate(x, leaves(layer), 2)
    torch.testing.assert_close(attention.values[:, 0], expected, **TOLERANCE)


class Feedback(nn.Module):
    """Some steps, each on what the attention makes of the one before."""

    def __init__(self, steps, **options):
        super().__init__()
        self.attention = TopDownAttention(9, 13, reduction=4, **options).double()
        nn.init.normal_(self.attention.mlp.weight, std=2)
        self.steps = steps

    def forward(self, x, tops):
        for top in tops[: self.steps - 1]:
            x = self.attention.modulate(x, top.flatten(2).mean(2))
        return x


@pytest.mark.parametrize(
    ("options", "size"), [({}, (4, 5)), (dict(mode="top", spatial="sigmoid", dims=3), (2, 3, 4))]
)
def test_top_down_attention_by_step(options, size):
    net, x, tops = Feedback(steps=3, **options), noise(2, 9, *size), [noise(2, 13, *size) for _ in range(2)]
    params = leaves(net.attention)
    maps, output = recorded(net, x, tops)
    expected = []
    for step, top in enumerate(tops, start=2):
        gates, positions, x = reference_td.attend(params, x, top, options.get("spatial", "raw"))
        expected += [("channels", step, gates), ("positions", step, positions)]
    torch.testing.assert_close(output, x, **TOLERANCE)
    assert [(item.kind.over, item.place["step"]) for item in maps] == [(o, s) for o, s, _ in expected]
    for item, (_, _, values) in zip(maps, expected, strict=True):
        torch.testing.assert_close(item.values.flatten(), values.flatten(), **TOLERANCE)


@pytest.mark.parametrize("ratios", [{}, dict(reduce_c1=1), dict(reduce_c2=2, reduce_hw=3)], ids=str)
def test_aw_factors(ratios):
    layer, x = build_aw(**ratios).eval(), noise(2, 4, 7, 9)
    params, attention = leaves(layer), layer.attention
    norms = {
        name: reference_aw.Norm(
            params[f"attention.{name}.weight"],
            params[f"attention.{name}.bias"],
            getattr(attention, name).running_mean,
            getattr(attention, name).running_var,
            training=False,
        )
        for name in ("norm1", "norm2")
    }
    ratios = [
        ratios.get(name, whole) for name, whole in (("reduce_c1", 4), ("reduce_c2", 1), ("reduce_hw", 1))
    ]
    expected = 1 + reference_aw.attention(x, params, norms, layer.weight.shape, ratios)
    ((found,), _) = recorded(layer, x)
    assert found.kind.over == "weights" and found.kind.bounds == (1, 2)
    torch.testing.assert_close(found.values.expand_as(expected), expected, **TOLERANCE)


@pytest.mark.parametrize("compatibility", ["pc", "dp"])
def test_learning_to_pay_attention(compatibility):
    layer = LearnToPayAttention(4, 4, compatibility).double()
    local, global_ = noise(2, 4, 3, 5), noise(2, 4)
    score = reference_ltpa.dot_product
    if compatibility == "pc":
        u, bias = layer.compatibility.u.weight.flatten(), layer.compatibility.u.bias

        def score(local, global_):
            return reference_ltpa.parametrised(local, global_, u, bias)

    ((found,), _) = recorded(layer, local, global_)
    torch.testing.assert_close(found.values, reference_ltpa.attend(local, global_, score)[1], **TOLERANCE)


def test_progressive_gate():
    layer, local, global_ = ProgressiveGate(4).double(), noise(2, 4, 3, 5), noise(2, 4)
    u, bias = layer.compatibility.u.weight.flatten(), layer.compatibility.u.bias
    expected = reference_ltpa.gate(local, global_, lambda *f: reference_ltpa.parametrised(*f, u, bias))[1]
    ((found,), _) = recorded(layer, local, global_)
    torch.testing.assert_close(found.values, expected, **TOLERANCE)


def test_attention_augmented_convolution():
    """A head's map is what each position gets of the softmax of all others' logits, on average."""
    layer = AAConv2d(6, 8, 3, padding=1, dk=8, dv=4, heads=2, relative=False).double()
    x = noise(2, 6, 3, 4)
    rows = torch.einsum("nc...,oc->no...", x, layer.qkv.weight.flatten(1)).flatten(2)
    rows = rows + layer.qkv.bias[:, None]
    expected = torch.zeros(2, 2, 12, dtype=torch.float64)
    for n in range(2):
        for head in range(2):
            queries = rows[n, 4 * head : 4 * head + 4]
            keys = rows[n, 8 + 4 * head : 12 + 4 * head]
            for i in range(12):
                logits = [(queries[:, i] * keys[:, j]).sum() / 2 for j in range(12)]
                weights = [logit.exp() / sum(other.exp() for other in logits) for logit in logits]
                for j in range(12):
                    expected[n, head, j] += weights[j].detach() / 12
    maps, output = recorded(layer, x)
    assert output.shape == (2, 8, 3, 4)
    assert [item.place for item in maps] == [{"head": 1}, {"head": 2}]
    for head, item in enumerate(maps):
        assert item.values.shape == (2, 1, 3, 4)
        torch.testing.assert_close(item.values.flatten(1), expected[:, head], **TOLERANCE)


def test_recursion_masks_by_flow_and_stage():
    net = build_flows(num_flows=3).eval()
    # Odd sizes, where a mask is cropped to the features that it multiplies.
    x = noise(2, 2, 33, 27)
    _, expected, _, _ = naive(net, x)
    maps, outputs = recorded(net, x)
    found = {(item.place["stage"], item.place["flow"]): item.values for item in maps}
    assert found.keys() == expected.keys() and len(maps) == len(found) == 5
    for key, values in found.items():
        torch.testing.assert_close(values, expected[key], **TOLERANCE)
    torch.testing.assert_close(outputs, net(x), rtol=0, atol=0)


def test_layers_of_a_recursion_are_told_apart_by_flow():
    net = build_flows(num_flows=2, stages=2)
    net.stages[0].append(SE(4, 2).double())
    net.eval()
    maps, _ = recorded(net, noise(1, 2, 16, 16))
    gates = [item for item in maps if item.kind.name == "SE gate"]
    assert [(item.layer, item.place, item.call) for item in gates] == [
        ("stages.0.3", {"flow": 1}, 1),
        ("stages.0.3", {"flow": 2}, 1),
    ]


KIND = AttentionKind("of a sixth paper", "Somebody, 2030", "What it does.", bounds=None)


class Sixth(nn.Module):
    """A layer that no one here knows."""

    def forward(self, x):
        return x * x.mean(1, keepdim=True)

    def recorded(self, run, x):
        return run(x), [Attention(KIND, x.mean(1, keepdim=True))]


def test_a_new_layer_needs_one_method():
    net = nn.Sequential(nn.ReLU(), Sixth(), Sixth()).double()
    maps, _ = recorded(net, noise(1, 3, 4, 4))
    assert [(item.layer, item.kind, item.call) for item in maps] == [("1", KIND, 1), ("2", KIND, 1)]


def network():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), TAM(8), CBAM(8, 2), build_aw((8, 6)), SE(6, 2)).double().eval()
    net[1].register_forward_hook(lambda module, inputs, output: output + 1)
    return net


def test_recording_changes_no_result_and_leaves_no_trace():
    net, x = network(), noise(2, 3, 9, 9)
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    maps, output = recorded(net, ours)
    expected = net(theirs)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    output.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)
    assert len(maps) == 5 and not any(item.values.requires_grad for item in maps)
    assert {name: dict(vars(module)) for name, module in net.named_modules()} == before


def test_nothing_is_left_after_an_error():
    net = network()
    net[4].forward = own = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        recorded(net, noise(1, 3, 9, 9))
    assert net[4].forward is own and "forward" not in vars(net[1])


def test_a_distribution_needs_bounds():
    with pytest.raises(ValueError, match="over channels requires bounds"):
        AttentionKind("a gate", "Somebody, 2030", "What it does.", over="channels", bounds=None)


def test_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"), record_attention(network().train()):
        pass


def test_kinds_say_what_their_values_are():
    """The bounds of each kind hold for extreme inputs."""
    net = network()
    maps, _ = recorded(net, 1e3 * noise(2, 3, 9, 9))
    for item in maps:
        low, high = item.kind.bounds
        assert low <= item.values.min() and item.values.max() <= high and not math.isnan(item.values.sum())
