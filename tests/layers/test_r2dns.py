"""R2DNS is the recursion of eqs. 1-5, to 1e-10 in float64, forward and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from layers import reference
from torch import nn

from attn_mm.layers import ANAR, MFBN, R2DNS, convert_multi_flow, flow, r2dns
from attn_mm.layers.ops.execution import current_flow
from attn_mm.layers.r2dns import pyramid

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
CHANNELS = (4, 5, 6, 4)
STRIDES = (2, 1, 2, 2)


def build(num_flows, stages=4, dims=2, **options):
    """A small convolutional R2DNS in float64 whose norms have parameters and statistics worth comparing."""
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    widths = (2, *CHANNELS[:stages])
    blocks = [
        nn.Sequential(
            conv(widths[i], widths[i + 1], 3, STRIDES[i], 1, bias=False), norm(widths[i + 1]), nn.ReLU()
        )
        for i in range(stages)
    ]
    anars = [ANAR(c, depth=3, width=64, dims=dims) for c in widths[1:-1]]
    net = convert_multi_flow(R2DNS(blocks, anars, num_flows, **options), num_flows).double()
    for module in net.modules():
        if isinstance(module, MFBN):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net


def naive(net, x, eta=0.5, start_mask=None):
    """The reference's maps, masks, parameters and norms for ``net``."""
    params = reference.leaves(net)
    norms = {}
    for name, module in net.named_modules():
        if isinstance(module, MFBN):
            norms[name] = reference.MultiFlowNorm(
                params[f"{name}.weight"], params[f"{name}.bias"], module.num_flows, training=net.training
            )
            norms[name].mean = list(module.running_mean.clone())
            norms[name].var = list(module.running_var.clone())

    def below(tensors, prefix):
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    def stage(i):
        w, stride = params[f"stages.{i}.0.weight"], STRIDES[i]
        return lambda x, n: norms[f"stages.{i}.1"](reference.conv(x, w, stride, 1), n).clamp(min=0)

    def attention(i):
        prefix = f"attentions.{i}."
        return lambda x, n: reference.anar(x, n, 3, below(params, prefix), below(norms, prefix))

    h = [stage(i) for i in range(len(net.stages))]
    g = [attention(i) for i in range(len(net.attentions))]
    return *reference.r2dns(h, g, x, net.num_flows, eta, start_mask), params, norms


def assert_same_run(net, x, **reading):
    """Maps, masks, running statistics and all gradients of ``net`` on ``x`` are the reference's."""
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, expected_masks, params, norms = naive(net, theirs, **reading)
    maps, masks = net(ours, return_masks=True)
    assert {(stage + 1, n) for stage, n in masks} == set(expected_masks)
    for (stage, n), mask in masks.items():
        torch.testing.assert_close(mask, expected_masks[stage + 1, n], **TOLERANCE)
    torch.testing.assert_close(maps, expected, **TOLERANCE)

    weights = [torch.randn_like(m) for m in maps]
    sum((w * m).sum() for w, m in zip(weights, maps)).backward()
    sum((w * m).sum() for w, m in zip(weights, expected)).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, params[name].grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    for name, norm in norms.items():
        module = net.get_submodule(name)
        torch.testing.assert_close(module.running_mean, torch.stack(norm.mean), **TOLERANCE)
        torch.testing.assert_close(module.running_var, torch.stack(norm.var), **TOLERANCE)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (38, 23)], ids=str)
@pytest.mark.parametrize("num_flows", [2, 3, 4])
def test_equals_the_naive_recursion(num_flows, size):
    assert_same_run(build(num_flows), torch.randn(2, 2, *size, dtype=torch.float64))


def test_equals_the_naive_recursion_in_eval_mode():
    assert_same_run(build(3).eval(), torch.randn(2, 2, 33, 38, dtype=torch.float64))


@pytest.mark.parametrize("num_flows", [2, 3])
def test_equals_the_naive_recursion_in_3d(num_flows):
    assert_same_run(build(num_flows, stages=3, dims=3), torch.randn(2, 2, 7, 13, 18, dtype=torch.float64))


@pytest.mark.parametrize("eta", [0.0, 0.25, 1.0])
def test_eta_is_the_shortcut_of_eq_5(eta):
    assert_same_run(build(3, eta=eta), torch.randn(2, 2, 17, 20, dtype=torch.float64), eta=eta)


@pytest.mark.parametrize("num_flows", [2, 4])
def test_first_mask_ones_puts_g_of_1_into_eq_5(num_flows):
    net = build(num_flows, eta=0.25, first_mask="ones")
    assert_same_run(net, torch.randn(2, 2, 17, 20, dtype=torch.float64), eta=0.25, start_mask=1)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_inputs_of_their_own_for_each_flow(training):
    net = build(3).train(training)
    inputs = [torch.randn(2, 2, *size, dtype=torch.float64) for size in [(9, 10), (17, 19), (33, 38)]]
    stages = list(net.stages)

    def own_input(x):
        return stages[0](inputs[current_flow()])

    # The recursion of one input, whose first stage takes the given ones instead.
    twin = copy.deepcopy(net)
    expected, expected_masks = R2DNS([own_input, *stages[1:]], net.attentions, 3)(
        inputs[-1], return_masks=True
    )
    outputs, masks = twin(tuple(inputs), return_masks=True)
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    torch.testing.assert_close(masks, expected_masks, **TOLERANCE)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_inputs_are_one_or_one_for_each_flow(count):
    with pytest.raises(ValueError, match=f"3 flows require one input each, got {count}"):
        r2dns(some(4), some(3), [torch.rand(1, 1, 8, 8)] * count, 3)


def test_masks_too_small_for_their_map_are_stretched():
    # Stages that halve 2s + 1 pixels to s leave a flow with more than twice the map of the flow before.
    stages = [lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2, stride=1), torch.tanh]
    attentions = [lambda x: 2 * reference.resize(x[:, :1], [2 * s for s in x.shape[2:]]).sigmoid()] * 2
    x = torch.randn(2, 3, 37, 26, dtype=torch.float64)
    outputs, masks = R2DNS(stages, attentions, 3)(x, return_masks=True)
    expected, expected_masks = reference.r2dns(
        [lambda x, n, h=h: h(x) for h in stages], [lambda x, n, g=g: g(x) for g in attentions], x, 3
    )
    stretched = [m for m in masks.values() if any(s % 2 for s in m.shape[2:])]
    assert stretched, "no mask of this test was stretched"
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    for (stage, n), mask in masks.items():
        torch.testing.assert_close(mask, expected_masks[stage + 1, n], **TOLERANCE)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 3), (5, 1, 4)], ids=str)
def test_flows_see_the_input_halved_with_odd_sizes_rounded_up(size):
    seen = {}

    def stage(x):
        seen[current_flow() + 1] = x
        return x

    def attention(x):
        return torch.ones(1, 1, *[2 * s for s in x.shape[2:]], dtype=x.dtype)

    x = torch.randn(2, 3, *size, dtype=torch.float64)
    R2DNS([stage, stage, torch.sin], [attention, attention], 2, eta=0.0)(x)
    expected = reference.down_sample(x)
    assert expected.shape[2:] == tuple((s + 1) // 2 for s in size)
    torch.testing.assert_close(seen[1], expected, **TOLERANCE)
    assert seen[2].shape == x.shape


@pytest.mark.parametrize(
    "num_flows, flows_of_stage",
    [(2, ["12", "12", "12", "2"]), (3, ["123", "123", "23", "3"]), (4, ["1234", "234", "34", "4"])],
)
def test_all_flows_of_a_stage_run_before_the_next_and_none_in_vain(num_flows, flows_of_stage):
    calls = []

    def recorded(name):
        def run(x):
            calls.append((name, current_flow() + 1))
            return x if name[0] == "h" else x[:, :1].repeat_interleave(2, 2).repeat_interleave(2, 3)

        return run

    net = R2DNS([recorded(f"h{i}") for i in range(4)], [recorded(f"g{i}") for i in range(3)], num_flows)
    net(torch.rand(1, 2, 16, 16))
    expected = []
    for stage, flows in enumerate(flows_of_stage):
        expected += [(f"h{stage}", int(n)) for n in flows]
        expected += [(f"g{stage}", int(n)) for n in flows[:-1]]
    assert calls == expected
    assert current_flow() is None


def test_modules_register_their_parameters_and_callables_need_none():
    conv, anar = nn.Conv2d(3, 4, 3, padding=1), ANAR(4, width=32)
    net = R2DNS([conv, torch.tanh], [anar], 2)
    assert {id(p) for p in net.parameters()} == {id(p) for m in (conv, anar) for p in m.parameters()}
    assert list(net.state_dict())[:2] == ["stages.0.weight", "stages.0.bias"]


def test_masks_come_on_request_only():
    net = build(3).eval()
    x = torch.randn(1, 2, 33, 33, dtype=torch.float64)
    outputs, masks = net(x, return_masks=True)
    torch.testing.assert_close(net(x), outputs, rtol=0, atol=0)
    assert sorted(masks) == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for (stage, n), mask in masks.items():
        assert mask.shape[:2] == (1, 1)
        assert mask.min() > 0 and mask.max() < 1
        if n == 3:
            assert mask.shape[2:] == outputs[stage].shape[2:]


def test_a_running_flow_outside_is_given_back():
    net = build(2).eval()
    with flow(1):
        net(torch.randn(1, 2, 16, 16, dtype=torch.float64))
        assert current_flow() == 1


def test_compiled_in_pieces_every_piece_knows_its_flow():
    class Break(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x

    net = build(3)
    for stage in net.stages:
        stage.insert(1, Break())
    twin = copy.deepcopy(net)
    x = torch.randn(2, 2, 33, 38, dtype=torch.float64)
    compiled = torch.compile(net, backend="eager")
    for _ in range(2):
        torch.testing.assert_close(compiled(x), twin(x), **TOLERANCE)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(net.state_dict()[key], value, **TOLERANCE)


def some(count):
    return [torch.tanh] * count


@pytest.mark.parametrize(
    "stages, attentions, options, message",
    [
        (4, 3, dict(num_flows=1), r"num_flows must be in 2\.\.4 .*got 1"),
        (4, 3, dict(num_flows=5), r"num_flows must be in 2\.\.4 .*got 5"),
        (4, 4, dict(num_flows=3), "4 stages require 3 attentions .*got 4"),
        (4, 3, dict(num_flows=3, eta=-0.5), r"eta must be a number in 0\.\.1, got -0.5"),
        (4, 3, dict(num_flows=3, eta="0.5"), r"eta must be a number in 0\.\.1, got '0.5'"),
        (4, 3, dict(num_flows=3, eta=True), r"eta must be a number in 0\.\.1, got True"),
        (4, 3, dict(num_flows=3, first_mask="one"), "first_mask must be 'none' or 'ones', got 'one'"),
    ],
)
def test_wrong_arguments_are_named(stages, attentions, options, message):
    with pytest.raises(ValueError, match=message):
        R2DNS(some(stages), some(attentions), **options)
    with pytest.raises(ValueError, match=message):
        r2dns(some(stages), some(attentions), torch.rand(1, 1, 8, 8), **options)


@pytest.mark.parametrize("dims", [0, 1, 4])
def test_a_pyramid_is_of_maps_of_two_or_three_dimensions(dims):
    with pytest.raises(ValueError, match=f"got {dims}"):
        pyramid(torch.rand(1, 3, *[8] * dims), 2)
