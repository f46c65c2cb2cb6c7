"""Gates seen and opened, slopes and filters: held to the papers' formulas, value by value."""

from __future__ import annotations

import pytest
import torch
from layers import reference_aw, reference_td
from layers import reference_gates as reference
from torch import nn

from attn_mm.layers import CBAM, ECA, FCA, SE, TAM, AWConv2d, TopDownAttention
from attn_mm.papers.tam.block_filters import filter_variances
from attn_mm.papers.tam.open_gates import find_gates, stages, watch
from attn_mm.papers.tam.slopes import linearised, sloped_layers

CHANNELS = 16
CLOSE = dict(rtol=1e-10, atol=1e-12)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Feedback(nn.Module):
    """A block that modulates its input once, as a graft's does: not through the layer's forward."""

    def __init__(self):
        super().__init__()
        self.attention = TopDownAttention(CHANNELS, CHANNELS, reduction=4)

    def forward(self, x):
        return self.attention.modulate(x, (x**2).mean((2, 3)))


def aw_values(layer, x):
    params = {f"attention.{name}": value for name, value in layer.attention.named_parameters()}
    norms = {
        name: reference_aw.Norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, training=False)
        for name, norm in layer.attention.named_children()
        if isinstance(norm, nn.BatchNorm2d)
    }
    shape = (*layer.weight.shape[:2], 3, 3)
    # One value serves all input channels.
    return {"weights": reference_aw.attention(x, params, norms, shape, (shape[1], 1, 1))[:, :, :1]}


def cbam_values(layer, x):
    params = dict(layer.named_parameters())
    norm = layer.spatial[1]

    def as_evaluated(seen):
        return (seen - norm.running_mean) / (norm.running_var + norm.eps) ** 0.5

    channels = (reference.cbam(x, params, as_evaluated, spatial=False) / x)[:, :, 0, 0]
    whole = reference.cbam(x, params, as_evaluated)
    return {"channels": channels, "positions": (whole / x)[:, 0] / channels[:, :1, None]}


def td_values(layer, x):
    params = dict(layer.attention.named_parameters())
    channels, positions, _ = reference_td.attend(params, x, x**2)
    return {"channels": channels, "positions": positions}


# A layer, and its gate's values by the formulas.
LAYERS = {
    "SE": (lambda: SE(CHANNELS), lambda m, x: {"channels": reference.se(x, leaves(m)) / x}),
    "ECA": (lambda: ECA(CHANNELS), lambda m, x: {"channels": reference.eca(x, leaves(m)) / x}),
    "FCA": (lambda: FCA(CHANNELS), lambda m, x: {"channels": reference.fca(x, leaves(m), 7) / x}),
    "CBAM": (lambda: CBAM(CHANNELS), cbam_values),
    "TAM": (lambda: TAM(CHANNELS), lambda m, x: {"positions": reference.tam_gate(x, leaves(m), 2)}),
    "TopDownAttention": (Feedback, td_values),
    "AWAttention": (lambda: AWConv2d(CHANNELS, 4, 3, padding=1, reduction=2), aw_values),
}


def leaves(layer):
    return dict(layer.named_parameters())


def built(kind):
    layer = reference.randomize(LAYERS[kind][0]()).eval()
    for norm in layer.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return layer


def moments(values):
    """Mean and variance of a list of numbers, by their definitions."""
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_statistics(kind):
    layer = built(kind)
    batches = [randn(2, CHANNELS, 7, 7), randn(1, CHANNELS, 7, 7)]
    (gate,) = find_gates(layer)
    assert gate.kind == kind
    plain = [layer(x) for x in batches]
    with watch([gate]) as seen:
        watched = [layer(x) for x in batches]
    assert all(torch.equal(*pair) for pair in zip(plain, watched)), "watching changes nothing"
    layer(batches[0])
    (one,) = seen
    assert one.gate is gate and one.size == (7, 7)
    expected = [LAYERS[kind][1](layer, x) for x in batches]
    assert list(one.parts) == list(expected[0])
    for part, statistics in one.parts.items():
        samples = [moments(sample.flatten().tolist()) for values in expected for sample in values[part]]
        found = zip(statistics.sample_mean.tolist(), statistics.sample_variance.tolist(), strict=True)
        assert [*found] == [pytest.approx(pair, rel=1e-8, abs=1e-12) for pair in samples]
        everything = [value for values in expected for value in values[part].flatten().tolist()]
        assert (statistics.mean, statistics.variance) == pytest.approx(moments(everything), rel=1e-8)


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_opened(kind):
    layer, x = built(kind), randn(2, CHANNELS, 7, 7)
    before = layer(x)
    (gate,) = find_gates(layer)
    with pytest.raises(KeyError), gate.opened():
        found = layer(x)
        raise KeyError
    expected = x
    if kind == "AWAttention":
        expected = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(before, expected)
    assert torch.equal(layer(x), before)


@torch.no_grad()
def test_one_of_several_is_opened():
    first, conv, second = built("SE"), nn.Conv2d(CHANNELS, CHANNELS, 1).double(), built("TAM")
    network, x = nn.Sequential(first, conv, second), randn(2, CHANNELS, 5, 5)
    gates = find_gates(network)
    assert [gate.name for gate in gates] == ["0", "2"]
    with gates[0].opened():
        torch.testing.assert_close(network(x), second(conv(x)), **CLOSE)
    with gates[1].opened():
        torch.testing.assert_close(network(x), conv(first(x)), **CLOSE)


@torch.no_grad()
def test_gates_come_by_depth():
    """In the order in which they run; what never runs is left out."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.idle, self.first, self.middle = (SE(4, reduction=2) for _ in range(4))

        def forward(self, x):
            x = self.middle(nn.functional.avg_pool2d(self.first(x), 2))
            return self.last(x) + self.last(2 * x)

    network = Network()
    with watch(find_gates(network)) as seen:
        network(torch.randn(3, 4, 8, 6))
        network(torch.randn(1, 4, 8, 6))
    assert [one.gate.name for one in seen] == ["first", "middle", "last"]
    assert stages([one.size for one in seen]) == [1, 2, 2]
    assert [one.parts["channels"].count for one in seen] == [4, 4, 8]


def tam_with_slopes():
    network = nn.Sequential(reference.randomize(TAM(8)), reference.randomize(TAM(4)))
    return network, randn(2, 8, 3, 3)


def test_slopes_come_by_their_distance_from_1():
    network, _ = tam_with_slopes()
    nn.init.constant_(network[0].tree[1].weight, 1.3)
    network[0].tree[1].weight.data[0] = 1.7
    nn.init.constant_(network[0].tree[3].weight, 0.1)
    nn.init.constant_(network[1].tree[1].weight, 0.8)
    found = [(layer.name, layer.slope) for layer in sloped_layers(network)]
    assert found == [
        ("1.tree.1", pytest.approx(0.8)),
        ("0.tree.1", pytest.approx((3 * 1.3 + 1.7) / 4)),
        ("0.tree.3", pytest.approx(0.1)),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
@torch.no_grad()
def test_linearised(number):
    """The formulas with these layers' slopes set to 1; afterwards all is as before."""
    layer, x = reference.randomize(TAM(8)), randn(2, 8, 3, 3)
    before, params = layer(x), {name: value.clone() for name, value in leaves(layer).items()}
    layers = sloped_layers(layer)
    assert len(layers) == 2
    for one in layers[:number]:
        params[f"{one.name}.weight"].fill_(1)
    with linearised(layers[:number]):
        found = layer(x)
    torch.testing.assert_close(found, reference.tam(x, params), **CLOSE)
    assert torch.equal(found, before) == (number == 0)
    assert torch.equal(layer(x), before)


def test_all_linear_is_affine():
    """Without its non-linearities the gate's logit at the mean of two maps is the mean of their logits."""
    layer = reference.randomize(TAM(8))
    maps = randn(1, 8, 3, 3), randn(1, 8, 3, 3)

    def logit(x):
        return ((layer(x) / x)[:, 0]).logit()

    middle = sum(maps) / 2
    assert not torch.allclose(logit(middle), sum(map(logit, maps)) / 2)
    with linearised(sloped_layers(layer)):
        torch.testing.assert_close(logit(middle), sum(map(logit, maps)) / 2)


@pytest.mark.parametrize("conv", [nn.Conv2d(6, 4, 3, groups=2), nn.Conv3d(2, 3, (1, 2, 2))])
def test_filter_variances(conv):
    expected = []
    for weights in conv.weight:
        expected.append(moments(weights.double().flatten().tolist())[1])
    assert filter_variances(conv.weight).tolist() == pytest.approx(expected, rel=1e-12)
