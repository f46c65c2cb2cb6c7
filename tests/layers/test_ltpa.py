"""Learn-to-pay-attention layers against the paper's equations written out."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from layers import reference_ltpa as reference
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers.ltpa import LearnToPayAttention, ProgressiveGate
from attn_mm.layers.ops.execution import as_written

TOLERANCE = dict(rtol=1e-12, atol=1e-13)
SIZES = [(2, 5, 7), (1, 3, 1), (3, 1, 1), (2, 2, 3, 5)]  # batch and size; the last is video
EACH_SIZE = pytest.mark.parametrize("batch_and_size", SIZES, ids=lambda s: "x".join(map(str, s)))
EACH_COMPATIBILITY = pytest.mark.parametrize("compatibility", ["pc", "dp"])


def features(batch_and_size, channels=4, global_channels=4, dtype=torch.float64):
    batch, *size = batch_and_size
    local = torch.randn(batch, channels, *size, dtype=dtype, requires_grad=True)
    return local, torch.randn(batch, global_channels, dtype=dtype, requires_grad=True)


def leaves(module):
    return {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}


def naive_score(params, compatibility="pc"):
    if compatibility == "dp":
        return reference.dot_product
    u, bias = params["compatibility.u.weight"].flatten(), params["compatibility.u.bias"][0]
    return lambda local, g: reference.parametrised(local, g, u, bias)


def gradients(outputs, inputs):
    """Gradients of one random weighting of all outputs, the same for the same shapes."""
    generator = torch.Generator().manual_seed(1)
    total = sum((torch.randn(y.shape, generator=generator, dtype=torch.float64) * y).sum() for y in outputs)
    return torch.autograd.grad(total, inputs, allow_unused=True)


def assert_same(layer, params, ours, naive, inputs):
    for have, want in zip(ours, naive):
        torch.testing.assert_close(have, want, **TOLERANCE)
    have = gradients(ours, [*inputs, *layer.parameters()])
    want = gradients(naive, [*inputs, *params.values()])
    for name, a, b in zip(["local", "global", *params], have, want, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE, msg=lambda m, name=name: f"{name}: {m}")


class TestLearnToPayAttention:
    @EACH_COMPATIBILITY
    @EACH_SIZE
    @pytest.mark.parametrize("written", [False, True], ids=["shortcut", "as written"])
    def test_is_equations_1_to_3(self, compatibility, batch_and_size, written):
        local, global_ = features(batch_and_size)
        layer = LearnToPayAttention(4, 4, compatibility, dims=len(batch_and_size) - 1).double()
        params = leaves(layer)
        naive = reference.attend(local, global_, naive_score(params, compatibility))
        if written:
            with as_written():
                ours = layer(local, global_)
        else:
            ours = layer(local, global_)
        assert_same(layer, params, ours, naive, (local, global_))

    @EACH_COMPATIBILITY
    def test_projects_the_global_feature_where_the_widths_differ(self, compatibility):
        local, global_ = features((2, 3, 5), channels=4, global_channels=6)
        layer = LearnToPayAttention(4, 6, compatibility).double()
        params = leaves(layer)
        weight, bias = params["projection.weight"], params["projection.bias"]
        projected = torch.stack([torch.stack([(w * g).sum() for w in weight]) for g in global_]) + bias
        naive = reference.attend(local, projected, naive_score(params, compatibility))
        assert_same(layer, params, layer(local, global_), naive, (local, global_))

    def test_takes_a_projection_of_ones_own_even_at_equal_widths(self):
        class Double(nn.Module):
            def forward(self, x):
                return 2 * x

        local, global_ = features((2, 3, 5))
        with_projection = LearnToPayAttention(4, 4, "dp", projection=Double())
        without = LearnToPayAttention(4, 4, "dp", projection=None)
        torch.testing.assert_close(with_projection(local, global_), without(local, 2 * global_))
        assert not torch.allclose(with_projection(local, global_)[0], without(local, global_)[0])

    def test_parameters(self):
        def count(*args, **kwargs):
            return sum(p.numel() for p in LearnToPayAttention(*args, **kwargs).parameters())

        assert count(512, 512, "pc") == 513
        assert count(512, 512, "dp") == 0
        assert count(256, 512, "pc") == 257 + 256 * 512 + 256
        assert count(8, 8, "pc", dims=3) == 9

    @EACH_COMPATIBILITY
    def test_scores_too_large_for_exp(self, compatibility):
        local, global_ = features((2, 5, 7))
        vector, attention = LearnToPayAttention(4, 4, compatibility).double()(1e4 * local, global_)
        assert vector.isfinite().all()
        torch.testing.assert_close(attention.sum((-2, -1)), torch.ones_like(attention[..., 0, 0]))

    def test_the_query_of_another_image_moves_dp_and_not_pc(self):
        local, global_ = features((2, 5, 7))
        for compatibility, moves in (("dp", True), ("pc", False)):
            layer = LearnToPayAttention(4, 4, compatibility).double()
            change = (layer(local, global_.flip(0))[1] - layer(local, global_)[1]).abs().max()
            assert (change > 1e-3) if moves else (change < 1e-14)

    def test_the_written_form_has_the_papers_multiply_adds(self):
        local, global_ = features((2, 5, 7), channels=8, global_channels=8, dtype=torch.float32)
        for compatibility in ("pc", "dp"):
            layer = LearnToPayAttention(8, 8, compatibility)
            with FlopCounterMode(display=False) as counter, as_written(), torch.no_grad():
                layer(local, global_)
            scores, mean = 2 * 8 * 35, 2 * 8 * 35
            assert counter.get_total_flops() == 2 * (scores + mean)

    @pytest.mark.parametrize(
        "options, message",
        [
            (dict(compatibility="add"), "compatibility must be 'pc' or 'dp', got 'add'"),
            (dict(dims=1), "dims must be 2 or 3, got 1"),
            (dict(projection="mlp"), "projection must be 'linear', a module or None, got 'mlp'"),
            (dict(projection=None), "6 channels requires a projection to the 4 local_channels"),
        ],
    )
    def test_refuses(self, options, message):
        with pytest.raises(ValueError, match=message):
            LearnToPayAttention(4, 6, **options)

    @pytest.mark.parametrize("dims, shape", [(2, (2, 4, 5)), (3, (4, 4, 5, 5))])
    def test_refuses_features_of_other_dimensions(self, dims, shape):
        layer = LearnToPayAttention(4, 4, dims=dims)
        with pytest.raises(ValueError, match=rf"local features must be \(N, C, and {dims} sizes\)"):
            layer(torch.zeros(shape), torch.zeros(shape[0], 4))


class TestProgressiveGate:
    @EACH_SIZE
    @pytest.mark.parametrize("written", [False, True], ids=["shortcut", "as written"])
    def test_is_the_sigmoid_of_equation_2(self, batch_and_size, written):
        local, global_ = features(batch_and_size)
        layer = ProgressiveGate(4, dims=len(batch_and_size) - 1).double()
        params = leaves(layer)
        naive = reference.gate(local, global_, naive_score(params))
        if written:
            with as_written():
                ours = layer(local, global_)
        else:
            ours = layer(local, global_)
        assert_same(layer, params, ours, naive, (local, global_))

    def test_refuses(self):
        with pytest.raises(ValueError, match="dims must be 2 or 3, got 4"):
            ProgressiveGate(4, dims=4)
        with pytest.raises(ValueError, match="local features must be"):
            ProgressiveGate(4)(torch.zeros(2, 4, 5), torch.zeros(2, 4))


LAYERS = pytest.mark.parametrize(
    "make",
    [
        lambda: LearnToPayAttention(16, 24, "pc"),
        lambda: LearnToPayAttention(16, 24, "dp"),
        lambda: ProgressiveGate(16),
    ],
    ids=["pc", "dp", "gate"],
)


def inputs_of(layer, batch=2):
    channels = 16 if isinstance(layer, ProgressiveGate) else 24
    local, global_ = features((batch, 9, 7), 16, channels, torch.float32)
    return local.detach(), global_.detach()


@LAYERS
class TestLivesInTorch:
    def test_float32_and_channels_last(self, make):
        layer = make()
        local, global_ = inputs_of(layer)
        exact = copy.deepcopy(layer).double()(local.double(), global_.double())
        for memory_format in (torch.contiguous_format, torch.channels_last):
            ours = layer(local.contiguous(memory_format=memory_format), global_)
            for have, want in zip(ours, exact):
                torch.testing.assert_close(have.double(), want, rtol=1e-5, atol=1e-6)

    def test_bfloat16_autocast(self, make):
        layer = make()
        local, global_ = inputs_of(layer)
        exact = layer(local, global_)
        with torch.autocast("cpu", torch.bfloat16):
            ours = layer(local, global_)
        for have, want in zip(ours, exact):
            torch.testing.assert_close(have.float(), want, rtol=0.05, atol=0.02)

    def test_copies_pickles_and_loads(self, make):
        layer = make()
        inputs = inputs_of(layer)
        other = make()
        other.load_state_dict(layer.state_dict())
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), other):
            for have, want in zip(twin(*inputs), layer(*inputs), strict=True):
                assert torch.equal(have, want)

    def test_compiles_whole(self, make):
        layer = make()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for batch in (2, 1):
            inputs = inputs_of(layer, batch)
            for have, want in zip(compiled(*inputs), layer(*inputs)):
                torch.testing.assert_close(have, want)

    def test_exports(self, make):
        layer = make().eval()
        inputs = inputs_of(layer)
        exported = torch.export.export(layer, inputs, strict=False).module()
        for have, want in zip(exported(*inputs), layer(*inputs)):
            torch.testing.assert_close(have, want)
