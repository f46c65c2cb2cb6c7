"""TAM is a tree over the channels; its shortcut, its counts, and the statistics of its gate."""

from __future__ import annotations

import copy
import pickle
import sys
from itertools import product

import pytest
import torch
from layers import reference_gates as reference
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, resnet34, resnet50, resnet101, resnext50_32x4d

from attn_mm.layers.ops import pieces
from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.tam import TAM, tree_groups


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def parameters(layer):
    return sum(p.numel() for p in layer.parameters())


TREES = [(16, 2), (2, 2), (12, 2), (7, 2), (24, 4), (27, 3), (10, 5), (3, 4), (36, 6)]
SIZES = [(1, (1, 1)), (2, (5, 3)), (1, (2, 3, 4))]


@pytest.mark.parametrize("batch, size", SIZES, ids=str)
@pytest.mark.parametrize("channels, group_size", TREES)
def test_equals_the_reference(channels, group_size, batch, size):
    layer = reference.randomize(TAM(channels, group_size, dims=len(size)))

    def formula(x, params):
        return reference.tam(x, params, group_size)

    x = randn(batch, channels, *size)
    reference.assert_equals(layer, x, formula)
    layer.zero_grad()
    with as_written():
        reference.assert_equals(layer, x, formula)


@pytest.mark.parametrize("batch, size", SIZES, ids=str)
@pytest.mark.parametrize("channels, group_size", [(8, 2), (12, 2), (9, 3)])
def test_wider_kernels_equal_the_reference(channels, group_size, batch, size):
    layer = reference.randomize(TAM(channels, group_size, kernel_size=3, dims=len(size)))
    reference.assert_equals(
        layer, randn(batch, channels, *size), lambda x, params: reference.tam(x, params, group_size)
    )


def cut(monkeypatch, elements):
    monkeypatch.setitem(pieces._PIECE, "cpu", elements)


@pytest.mark.parametrize("elements", [1, 100, 300, 1000, 1700, 10**6])
@pytest.mark.parametrize("size", [(7, 5), (5, 3, 4)], ids=str)
def test_pieces_make_the_same(size, elements, monkeypatch):
    """One row at a time, several rows, one sample, several samples, everything."""
    cut(monkeypatch, elements)
    layer = reference.randomize(TAM(12, dims=len(size)))
    reference.assert_equals(layer, randn(5, 12, *size), reference.tam)


@pytest.mark.parametrize("shape", [(5, 4, 7, 3), (2, 4, 6, 2, 3), (0, 4, 3, 3), (2, 4, 0, 3), (2, 4, 3, 0)])
@pytest.mark.parametrize("elements", [1, 30, 60, 90, 200, 10**6])
def test_pieces_cover_the_map_once(shape, elements, monkeypatch):
    cut(monkeypatch, elements)
    x = torch.zeros(shape)
    smallest = x[:1, :, :1].numel()
    for piece in pieces.pieces(x):
        x[piece] += 1
        assert x[piece].numel() <= max(elements, smallest)
    assert x.eq(1).all()


@pytest.mark.parametrize("shape", [(0, 8, 3, 3), (2, 8, 0, 3)])
def test_empty_maps(shape):
    layer = TAM(8)
    x = torch.randn(shape, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == shape
    assert all(not p.grad.any() for p in layer.parameters())


TREES = (16, 2), (12, 3)


@pytest.mark.parametrize(
    "tree, dims, kernel_size",
    [
        # Half of them have every pair of values.
        pytest.param(tree, dims, kernel, marks=() if even else pytest.mark.whole)
        for tree, dims, kernel in product(TREES, (2, 3), (1, 3))
        for even in [(tree == TREES[0]) == ((dims == 2) == (kernel == 1))]
    ],
    ids=str,
)
def test_formats_and_compilation(tree, dims, kernel_size):
    channels, group_size = tree
    layer = TAM(channels, group_size, kernel_size, dims).double()
    for conv, act in zip(layer.tree[0::2], layer.tree[1::2]):
        nn.init.uniform_(conv.bias, -0.5, 0.5)
        # Where rounding crosses a kink the gradient jumps: a small kink.
        nn.init.constant_(act.weight, 0.9)
    x = randn(2, channels, *(5, 4, 3)[:dims])
    reference.assert_robust(layer, x)
    reference.assert_compiles(layer, x)


def test_half_precision_is_summed_in_float32():
    """A bfloat16 input has the gate of the same numbers in float64, and gradients lose no small terms."""
    layer = reference.randomize(TAM(64)).float()
    x = torch.randn(4, 64, 16, 16).bfloat16()
    exact = reference.step(copy.deepcopy(layer).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = reference.step(layer, x)
    out = exact[0].bfloat16()
    assert (found[0] != out).float().mean() < 0.01
    # The gradient of the output is rounded to bfloat16; nothing else is.
    reference.assert_near(found[2:], exact[2:], 0.01)


def test_the_shortcut_keeps_only_the_input_and_the_gate():
    layer = TAM(64)
    x = torch.randn(2, 64, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    mine = {p.data_ptr() for p in layer.parameters()} | {x.data_ptr()}
    assert [tuple(t.shape) for t in kept if t.data_ptr() not in mine] == [(2, 1, 8, 8)]


def test_the_tree_as_written_is_convolutions():
    layer, x = TAM(8), torch.randn(2, 8, 5, 3)

    def macs():
        with FlopCounterMode(display=False) as counter:
            layer(x)
        return counter.get_total_flops() // 2

    assert macs() == 0
    with as_written():
        assert macs() == (8 + 4 + 2) * 5 * 3 * 2


def test_compiled_graphs_have_slices_and_exported_ones_convolutions():
    layer, x = TAM(8), torch.randn(2, 8, 5, 3)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph.graph)
        return graph

    torch._dynamo.reset()
    torch.compile(layer, backend=backend, fullgraph=True)(x)
    exported = torch.export.export(layer, (x,), strict=False).graph
    traced = torch.jit.trace(layer, x).inlined_graph
    assert "conv" not in str(graphs[0])
    assert str(exported).count("aten.conv2d") == str(traced).count("aten::_convolution") == 3


def test_a_gate_of_ones_changes_nothing():
    layer = TAM(8)
    nn.init.zeros_(layer.tree[-1].weight)
    nn.init.constant_(layer.tree[-1].bias, 100)
    x = torch.randn(2, 8, 5, 3)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize(
    "channels, group_size, groups",
    [
        (256, 2, [2] * 8),
        (2048, 4, [4] * 5 + [2]),
        (2048, 8, [8, 8, 8, 4]),
        (256, 64, [64, 4]),
        (243, 3, [3] * 5),
        (1000, 10, [10] * 3),
        (2**29, 2, [2] * 29),
        (96, 2, [2] * 5 + [3]),
        (7, 2, [7]),
        (3, 4, [3]),
        (4, 4, [4]),
        (2, 2, [2]),
    ],
)
def test_levels(channels, group_size, groups):
    assert tree_groups(channels, group_size) == groups


def test_layers_are_the_paper_s():
    layer = TAM(24, 2)
    assert [type(m) for m in layer.tree] == [nn.Conv2d, nn.PReLU] * 3 + [nn.Conv2d]
    convs, acts = layer.tree[0::2], layer.tree[1::2]
    assert [(c.in_channels, c.out_channels, c.groups) for c in convs] == [
        (24, 12, 12),
        (12, 6, 6),
        (6, 3, 3),
        (3, 1, 1),
    ]
    assert [a.num_parameters for a in acts] == [12, 6, 3]
    assert all(c.kernel_size == (1, 1) and c.bias is not None for c in convs)
    assert type(TAM(8, dims=3).tree[0]) is nn.Conv3d


@pytest.mark.parametrize("dims", [2, 3])
def test_it_starts_from_he_and_with_slopes_of_zero(dims):
    layer = TAM(4096, 4, 3, dims)
    for p in layer.parameters():
        nn.init.constant_(p, 7.0)
    layer.reset_parameters()
    for m in layer.tree:
        if isinstance(m, nn.PReLU):
            assert not m.weight.any()
        else:
            assert not m.bias.any()
    std = (2 / (4 * 3**dims)) ** 0.5
    assert abs(layer.tree[0].weight.std().item() / std - 1) < 0.05


def cifar100(net, stem=3 * 64 * (3**2 - 7**2)):
    with torch.device("meta"):
        return parameters(net(num_classes=100)) + stem


def wide_resnet_16_8():
    """Stem convolution and norm, three stages of two basic blocks with 1x1 shortcuts where widths change."""
    total, before = 3 * 16 * 9 + 2 * 16, 16
    for width in (128, 256, 512):
        total += 9 * before * width + 3 * 9 * width * width + 4 * 2 * width
        total += before * width + 2 * width
        before = width
    return total + 512 * 100 + 100


NETS = {
    "ResNet-18": (cifar100(resnet18), {64: 2, 128: 2, 256: 2, 512: 2}),
    "ResNet-34": (cifar100(resnet34), {64: 3, 128: 4, 256: 6, 512: 3}),
    "ResNet-50": (cifar100(resnet50), {256: 3, 512: 4, 1024: 6, 2048: 3}),
    "ResNet-101": (cifar100(resnet101), {256: 3, 512: 4, 1024: 23, 2048: 3}),
    "ResNeXt-50": (cifar100(resnext50_32x4d), {256: 3, 512: 4, 1024: 6, 2048: 3}),
    "WRN-16-8": (wide_resnet_16_8(), {128: 2, 256: 2, 512: 2}),
}


def with_tam(net, kernel_size):
    total, blocks = NETS[net]
    with torch.device("meta"):
        return total + sum(times * parameters(TAM(w, kernel_size=kernel_size)) for w, times in blocks.items())


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("channels", [2, 64, 1024])
def test_parameters_of_a_binary_tree(channels, dims, kernel_size):
    nodes = channels - 1
    weights, biases, slopes = 2 * nodes * kernel_size**dims, nodes, nodes - 1
    assert parameters(TAM(channels, 2, kernel_size, dims)) == weights + biases + slopes


@pytest.mark.parametrize(
    "net, kernel_size, published",
    [
        ("ResNet-50", 3, 24.01),
        ("ResNet-101", 3, 43.34),
        ("ResNeXt-50", 3, 23.48),
        ("WRN-16-8", 3, 11.05),
        ("ResNet-18", 1, 11.228),
        ("ResNet-50", 1, 23.766),
        ("ResNet-101", 1, 42.827),
        ("ResNeXt-50", 1, 23.237),
        ("WRN-16-8", 1, 11.016),
    ],
)
def test_parameters_on_cifar_100(net, kernel_size, published):
    """Table 1 has the 3x3 kernels, rounded or cut off; the 1x1 of the text are recounted by hand."""
    total = with_tam(net, kernel_size)
    if kernel_size == 3:
        assert published - 0.005 <= total / 1e6 < published + 0.01
    else:
        assert round(total / 1e6, 3) == published


@pytest.mark.parametrize(
    "net, published",
    # Table 2, on SVHN with 10 classes: 90 rows of the classifier fewer.
    [("ResNet-18", 11.21), ("ResNet-34", 21.36), ("ResNet-50", 23.82), ("WRN-16-8", 11.00)],
)
def test_parameters_of_table_2(net, published):
    total = with_tam(net, kernel_size=3) - 90 * (max(NETS[net][1]) + 1)
    assert round(total / 1e6, 2) == published


class TestGateStatistics:
    @pytest.mark.parametrize("written", [False, True])
    def test_are_those_of_the_gate(self, written):
        layer = reference.randomize(TAM(8))
        params = dict(layer.named_parameters())
        # Samples of several sizes: the mean over everything weighs them by their positions.
        batches = [randn(3, 8, 5, 4), randn(1, 8, 7, 7), randn(2, 8, 1, 1)]
        with layer.gate_statistics() as statistics:
            if written:
                with as_written():
                    outs = [layer(x) for x in batches]
            else:
                outs = [layer(x) for x in batches]
        assert all(torch.allclose(layer(x), out) for x, out in zip(batches, outs))
        gates = [g.flatten() for x in batches for g in reference.tam_gate(x, params, 2)]
        everything = torch.cat(gates)
        assert statistics.count == len(gates) == 6
        close = dict(rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(statistics.sample_mean, torch.stack([g.mean() for g in gates]), **close)
        torch.testing.assert_close(
            statistics.sample_variance, torch.stack([((g - g.mean()) ** 2).mean() for g in gates]), **close
        )
        assert statistics.mean == pytest.approx(everything.mean().item(), rel=1e-12)
        assert statistics.variance == pytest.approx(everything.var(correction=0).item(), rel=1e-12)

    def test_survive_many_batches(self):
        """In float32 a running sum of this many values near 0.7 would have lost the variance."""
        layer = TAM(2)
        nn.init.constant_(layer.tree[0].weight, 1e-4)
        nn.init.constant_(layer.tree[0].bias, 0.85)
        layer.requires_grad_(False)
        with layer.gate_statistics() as statistics:
            for _ in range(300):
                layer(torch.randn(1, 2, 64, 64))
        slope = torch.tensor(0.85).sigmoid() * torch.tensor(-0.85).sigmoid()
        assert statistics.variance == pytest.approx(2 * (1e-4 * slope.item()) ** 2, rel=0.01)

    def test_a_static_gate_has_no_variance(self):
        """The paper's finding (figure 3)."""
        layer = TAM(8)
        nn.init.zeros_(layer.tree[-1].weight)
        with layer.gate_statistics() as statistics:
            layer(torch.randn(4, 8, 5, 5))
        assert statistics.mean == 0.5 and statistics.variance == 0
        assert statistics.sample_mean.dtype == torch.float64

    def test_end_with_their_block(self):
        layer, x = TAM(8), torch.randn(2, 8, 3, 3)
        layer(x)
        with layer.gate_statistics() as outer:
            layer(x)
            with pytest.raises(KeyError), layer.gate_statistics() as inner:
                layer(x)
                raise KeyError
            layer(x)
        layer(x)
        assert outer.count == 6 and inner.count == 2
        assert not layer._statistics

    def test_are_refused_before_the_gate_ran(self):
        with TAM(8).gate_statistics() as statistics:
            assert statistics.count == 0
            with pytest.raises(RuntimeError, match="the gate did not run"):
                _ = statistics.mean

    def test_keep_no_graph_and_don_t_disturb_gradients(self):
        layer, x = reference.randomize(TAM(8)), randn(2, 8, 3, 3)
        expected = reference.step(layer, x)
        with layer.gate_statistics() as statistics:
            found = reference.step(layer, x)
        reference.assert_near(found, expected, 0)
        assert not statistics.sample_mean.requires_grad

    @pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="torch: guards are wrong on Python 3.13.0")
    def test_leave_a_compiled_module_compiled(self):
        torch._dynamo.reset()
        layer, x = TAM(8), torch.randn(2, 8, 3, 3)
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph

        compiled = torch.compile(layer, backend=backend)
        expected = compiled(x)
        before = len(graphs)
        with layer.gate_statistics() as statistics:
            for _ in range(4):
                torch.testing.assert_close(compiled(x), expected)
        assert statistics.count == 8
        collecting = len(graphs)
        compiled(x)
        assert before == 1 and len(graphs) == collecting <= 3

    def test_copies_collect_for_themselves(self):
        layer, x = TAM(8), torch.randn(2, 8, 3, 3)
        with layer.gate_statistics() as statistics:
            copy.deepcopy(layer)(x)
            pickle.loads(pickle.dumps(layer))(x)
            assert statistics.count == 0


def test_the_width_has_two_names():
    assert TAM(in_channels=32).tree[0].in_channels == 32
    with pytest.raises(TypeError, match="expected the number of channels once"):
        TAM()


@pytest.mark.parametrize(
    "channels, options, message",
    [
        (16, dict(dims=1), "dims must be 2 or 3, got 1"),
        (1, dict(), "channels must be at least 2, got 1"),
        (16, dict(group_size=1), "group_size must be at least 2, got 1"),
        (16, dict(kernel_size=2), "kernel_size must be odd, got 2"),
        (16, dict(kernel_size=0), "kernel_size must be odd, got 0"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(channels, options, message):
    with pytest.raises(ValueError, match=message):
        TAM(channels, **options)
