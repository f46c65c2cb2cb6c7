"""The pooled output of convolution and batch norm equals the pooled output, whichever way it is computed."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from layers import reference_td
from thinned import thinned
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_mm.layers import convert_multi_flow, flow
from attn_mm.layers.forms import td as pooled_norm
from attn_mm.layers.forms.td import pooled_conv_norm
from attn_mm.layers.mfbn import MFBN2d
from attn_mm.layers.ops.execution import as_written

# name: (convolution, input, route with fixed statistics, route with the batch's)
CASES = {
    "1x1 widening": (dict(kernel_size=1, out=24), (3, 4, 5, 3), "average", "covariance"),
    "1x1 widening, video": (dict(kernel_size=1, out=24), (2, 4, 2, 3, 3), "average", "covariance"),
    "1x1 narrowing": (dict(kernel_size=1, out=3), (3, 4, 5, 3), "average", "output"),
    "1x1 few pixels": (dict(kernel_size=1, out=24), (2, 4, 1, 1), "average", "output"),
    "1x1 bias": (dict(kernel_size=1, out=24, bias=True), (3, 4, 5, 3), "average", "output"),
    "1x1 groups": (dict(kernel_size=1, out=24, groups=2), (3, 4, 5, 3), "average", "output"),
    "1x1 stride": (dict(kernel_size=1, out=24, stride=2), (3, 4, 5, 3), "written", "output"),
    "1x1 padding": (dict(kernel_size=1, out=24, padding=1), (3, 4, 5, 3), "written", "output"),
    "3x3": (dict(kernel_size=3, out=5, padding=1), (2, 4, 5, 7), "average", "output"),
    "3x3 one row": (dict(kernel_size=3, out=5, padding=1), (2, 4, 1, 4), "average", "output"),
    "3x3 one pixel": (dict(kernel_size=3, out=5, padding=1), (2, 4, 1, 1), "average", "output"),
    "3x3 bias, groups": (
        dict(kernel_size=3, out=6, padding=1, bias=True, groups=2),
        (1, 4, 3, 4),
        "average",
        "output",
    ),
    "3x3 stride": (dict(kernel_size=3, out=5, padding=1, stride=2), (2, 4, 5, 7), "written", "output"),
    "3x3 no padding": (dict(kernel_size=3, out=5), (2, 4, 5, 7), "written", "output"),
    "3x3x3": (dict(kernel_size=3, out=5, padding=1), (2, 2, 3, 2, 4), "average", "output"),
    "3x3x3 one frame": (dict(kernel_size=3, out=5, padding=1), (2, 2, 1, 3, 2), "average", "output"),
    "1x3x3": (dict(kernel_size=(1, 3, 3), out=5, padding=(0, 1, 1)), (2, 2, 3, 2, 4), "average", "output"),
    "3x1x1": (dict(kernel_size=(3, 1, 1), out=5, padding=(1, 0, 0)), (2, 2, 3, 2, 4), "written", "output"),
}
SEVEN_NORMS = ("1x1 widening", "1x1 stride", "3x3")
NORMS = {
    "train": (dict(), True),
    "eval": (dict(), False),
    "train, cumulative": (dict(momentum=None, eps=1e-2), True),
    "train, no statistics": (dict(track_running_stats=False), True),
    "eval, no statistics": (dict(track_running_stats=False), False),
    "train, no affine": (dict(affine=False), True),
    "eval, no affine": (dict(affine=False), False),
}


def build(shape, kernel_size, out, norm_options=None, training=True, bias=False, **options):
    """A float64 convolution and norm with nothing left at its start value, and an input off centre."""
    dims = len(shape) - 2
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims](shape[1], out, kernel_size, bias=bias, **options).double()
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](out, **norm_options or {}).double().train(training)
    for tensor, low, high in (
        (norm.weight, 0.5, 1.5),
        (norm.bias, -0.5, 0.5),
        (norm.running_mean, -0.5, 0.5),
        (norm.running_var, 0.5, 1.5),
    ):
        if tensor is not None:
            nn.init.uniform_(tensor, low, high)
    x = (torch.randn(shape, dtype=torch.float64) + 1.5).requires_grad_()
    return x, conv, norm


def route(pooled):
    """The way that the result was computed, by the last operation of its graph."""
    seen, todo = set(), [pooled.grad_fn]
    while todo:
        node = todo.pop()
        seen.add(type(node).__name__)
        todo += [n for n, _ in node.next_functions if n is not None]
    if "_FromCovarianceBackward" in seen:
        return "covariance"
    if "_FromOutputBackward" in seen:
        return "output"
    return "written" if type(pooled.grad_fn).__name__.startswith("MeanBackward") else "average"


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# Each convolution with both kinds of statistics; the norm's other options with one of each route.
SHOWN = [(case, mode) for case in CASES for mode in NORMS if mode in ("train", "eval") or case in SEVEN_NORMS]


@pytest.mark.parametrize(("case", "mode"), thinned(product(CASES, NORMS), SHOWN, True))
def test_value_gradients_and_statistics(case, mode):
    options, shape, fixed_route, batch_route = CASES[case]
    norm_options, training = NORMS[mode]
    x, conv, norm = build(shape, norm_options=norm_options, training=training, **options)
    twin = reference_td.Norm(norm)
    x_twin, weight, bias = (
        None if t is None else t.detach().clone().requires_grad_() for t in (x, conv.weight, conv.bias)
    )

    for _ in range(2):  # the second time, the running statistics have moved
        for tensor in (x, *conv.parameters(), *norm.parameters()):
            tensor.grad = None
        for tensor in (x_twin, weight, bias, twin.gamma, twin.beta):
            if tensor is not None:
                tensor.grad = None
        pooled = pooled_conv_norm(x, conv, norm)
        from_batch = training or "no statistics" in mode
        assert route(pooled) == (batch_route if from_batch else fixed_route)
        y = reference_td.convolve(x_twin, weight, bias, conv.stride, conv.padding, conv.groups)
        expected = twin(y).flatten(2).mean(2)
        close(pooled, expected)

        weights = torch.randn_like(pooled)
        (pooled * weights).sum().backward()
        (expected * weights).sum().backward()
        close(x.grad, x_twin.grad)
        close(conv.weight.grad, weight.grad, 1e-11)
        if bias is not None:
            close(conv.bias.grad, bias.grad)
        if norm.affine:
            close(norm.weight.grad, twin.gamma.grad)
            close(norm.bias.grad, twin.beta.grad)
        if norm.running_mean is not None:
            close(norm.running_mean, twin.mean)
            close(norm.running_var, twin.var)
            assert norm.num_batches_tracked == (twin.batches if training else 0)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_frozen_parameters(training, kernel_size):
    x, conv, norm = build(
        (3, 4, 5, 3), kernel_size, 24, training=training, padding=kernel_size // 2, norm_options={}
    )
    x_grads = []
    for frozen in ((), (conv,), (norm,), (conv, norm)):
        conv.requires_grad_(conv not in frozen)
        norm.requires_grad_(norm not in frozen)
        for tensor in (x, *conv.parameters(), *norm.parameters()):
            tensor.grad = None
        pooled_conv_norm(x, conv, norm).square().sum().backward()
        x_grads.append(x.grad)
        for module in (conv, norm):
            assert all((p.grad is None) == (module in frozen) for p in module.parameters())
    for x_grad in x_grads[1:]:
        close(x_grad, x_grads[0])

    conv.requires_grad_(True)
    norm.requires_grad_(True)
    pooled_conv_norm(x.detach(), conv, norm).square().sum().backward()
    with torch.no_grad():
        assert not pooled_conv_norm(x, conv, norm).requires_grad


@pytest.mark.parametrize("case", ["1x1 widening", "1x1 widening, video", "1x1 narrowing", "3x3"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_channels_last(training, case):
    options, shape, *_ = CASES[case]
    x, conv, norm = build(shape, training=training, **options)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x_last = x.detach().to(memory_format=last).requires_grad_()
    pooled, pooled_last = (pooled_conv_norm(each, conv, norm) for each in (x, x_last))
    close(pooled_last, pooled)
    weights = torch.randn_like(pooled)
    close(*(torch.autograd.grad((p * weights).sum(), i)[0] for p, i in ((pooled_last, x_last), (pooled, x))))


@pytest.mark.parametrize("case", ["1x1 widening", "1x1 narrowing", "3x3"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_mixed_precision_is_no_worse_than_as_written(training, case):
    options, shape, *_ = CASES[case]
    x, conv, norm = build((16, *shape[1:]), training=training, **options)
    exact = pooled_conv_norm(x, conv, norm)
    weights = torch.randn_like(exact)
    (exact * weights).sum().backward()
    exact_grad = x.grad

    def errors(x_type):
        x_low, conv_low, norm_low = x.detach().to(x_type).requires_grad_(), *copy.deepcopy((conv, norm))
        conv_low.float(), norm_low.float()
        with torch.autocast("cpu", torch.bfloat16):
            pooled = pooled_conv_norm(x_low, conv_low, norm_low)
        assert pooled.dtype == torch.bfloat16
        (pooled * weights).sum().backward()
        assert x_low.grad.dtype == x_type and conv_low.weight.grad.dtype == torch.float32
        return [
            ((low - high).abs().max() / high.abs().max()).item()
            for low, high in (
                (pooled, exact),
                (x_low.grad, exact_grad),
                (conv_low.weight.grad, conv.weight.grad),
            )
        ]

    for x_type in (torch.float32, torch.bfloat16):
        ours = errors(x_type)
        with as_written():
            written = errors(x_type)
        assert all(mine <= max(1.2 * theirs, 2**-7) for mine, theirs in zip(ours, written)), (ours, written)


def test_half_precision_modules():
    x, conv, norm = build((3, 4, 5, 3), 1, 24)
    exact = pooled_conv_norm(x, conv, norm)
    conv, norm = conv.bfloat16(), norm.bfloat16()
    for training in (True, False):
        norm.train(training)
        pooled = pooled_conv_norm(x.bfloat16(), conv, norm)
        assert pooled.dtype == torch.bfloat16
        if training:
            torch.testing.assert_close(pooled.double(), exact, rtol=5e-2, atol=5e-2)


def test_the_variance_of_an_input_far_from_zero():
    x, conv, norm = build((4, 4, 8, 8), 1, 24)
    x = x.detach() + 1000
    exact = pooled_conv_norm(x, conv, norm)
    conv, norm = conv.float(), norm.float()
    ours = pooled_conv_norm(x.float(), conv, norm)
    with as_written():
        written = pooled_conv_norm(x.float(), conv, norm)
    assert (ours - exact).abs().max() <= (written - exact).abs().max() + 1e-5


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_as_written_counts_the_convolution(training):
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=training)
    counts = {}
    for name in ("written", "short"):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if name == "written":
                with as_written():
                    pooled_conv_norm(x, conv, norm)
            else:
                pooled_conv_norm(x, conv, norm)
        counts[name] = counter.get_total_flops()
    assert counts["written"] == 2 * 3 * 15 * 4 * 24
    assert counts["short"] < counts["written"] / 2


class _DoubledConv(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


class _Watched(nn.Module):
    """Counts the calls of a module's forward that an observer would see."""

    def __init__(self, module, register):
        super().__init__()
        self.calls = 0
        getattr(module, register)(self.seen)

    def seen(self, *_):
        self.calls += 1


@pytest.mark.parametrize("which", ["conv", "norm"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_hooks_are_run(training, register, which):
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=training)
    watched = _Watched({"conv": conv, "norm": norm}[which], register)
    assert route(pooled_conv_norm(x, conv, norm)) == "written"
    assert watched.calls == 1


def test_backward_hooks_are_run():
    x, conv, norm = build((3, 4, 5, 3), 1, 24)
    watched = _Watched(conv, "register_full_backward_hook")
    pooled_conv_norm(x, conv, norm).sum().backward()
    assert watched.calls == 1


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_modules_of_another_kind_run_themselves(training):
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=training)
    doubled = _DoubledConv(4, 24, 1, bias=False).double()
    replaced = copy.deepcopy(conv)
    replaced.forward = lambda x: 3 * conv(x)
    multi = MFBN2d(24, 2).double().train(training)
    for odd_conv, odd_norm in (
        (doubled, norm),
        (replaced, norm),
        (conv, multi),
        (conv, nn.InstanceNorm2d(24)),
        (conv, nn.GroupNorm(4, 24).double()),
        (conv, nn.Identity()),
        (nn.Identity(), nn.BatchNorm2d(4).double().train(training)),
        (nn.Sequential(conv), norm),
    ):
        twin_conv, twin_norm = copy.deepcopy((odd_conv, odd_norm))
        pooled = pooled_conv_norm(x, odd_conv, odd_norm)
        close(pooled, twin_norm(twin_conv(x)).mean((2, 3)))
        for ours, theirs in zip(odd_norm.buffers(), twin_norm.buffers()):
            close(ours, theirs)


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_synchronized_and_multi_flow_norms_with_fixed_statistics(dims, kernel_size):
    x, conv, norm = build((3, 4, 5, 3, 2)[: dims + 2], kernel_size, 24, padding=kernel_size // 2)
    flows = convert_multi_flow(copy.deepcopy(norm), 3)
    nn.init.normal_(flows.running_mean)
    nn.init.uniform_(flows.running_var, 0.5, 1.5)
    space = tuple(range(2, x.dim()))
    for each in (nn.SyncBatchNorm.convert_sync_batchnorm(norm), flows, flows.synchronized()):
        each.eval()
        for index in (0, 2, None):
            with flow(index):
                pooled = pooled_conv_norm(x, conv, each)
                close(pooled, each(conv(x)).mean(space))
            assert route(pooled) == "average"
    with flow(3), pytest.raises(IndexError, match="flow 3 is running, but this norm has num_flows=3"):
        pooled_conv_norm(x, conv, flows)


@pytest.mark.parametrize(
    "options, expected_route",
    [
        (dict(kernel_size=3, padding=1, dilation=2), "written"),
        (dict(kernel_size=3, padding="same", dilation=2), "written"),
        (dict(kernel_size=3, padding=1, padding_mode="reflect"), "written"),
        (dict(kernel_size=(3, 1), padding=(1, 0)), "written"),
        (dict(kernel_size=3, padding=(1, 0)), "written"),
        (dict(kernel_size=3, padding="same"), "average"),
        (dict(kernel_size=1, padding="valid", dilation=2), "average"),
    ],
    ids=str,
)
def test_other_convolutions(options, expected_route):
    x, conv, norm = build((2, 4, 5, 7), out=6, training=False, **options)
    pooled = pooled_conv_norm(x, conv, norm)
    assert route(pooled) == expected_route
    close(pooled, norm(conv(x)).mean((2, 3)))


def test_statistics_taken_away():
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=False)
    norm.running_mean = norm.running_var = None
    close(pooled_conv_norm(x, conv, norm), norm(conv(x)).mean((2, 3)))


class _MarkedConv(nn.Conv2d):
    """A subclass that computes what its parent does."""


def test_a_subclass_with_its_parents_forward_takes_the_shortcut():
    x, _, norm = build((3, 4, 5, 3), 1, 24)
    conv = _MarkedConv(4, 24, 1, bias=False).double()
    assert route(pooled_conv_norm(x, conv, norm)) == "covariance"


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_one_value_per_channel_fails_as_the_norm_does(kernel_size):
    x, conv, norm = build((1, 4, 1, 1), kernel_size, 24, padding=kernel_size // 2)
    with pytest.raises(ValueError, match="more than 1 value per channel") as theirs:
        norm(conv(x))
    with pytest.raises(ValueError, match="more than 1 value per channel") as ours:
        pooled_conv_norm(x, conv, norm)
    assert str(ours.value) == str(theirs.value)
    assert norm.num_batches_tracked == 2  # as the norm counts a batch that it then refuses


def test_an_unbatched_input_fails_as_the_norm_does():
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=False)
    with pytest.raises(ValueError, match="expected 4D input"):
        pooled_conv_norm(x[0], conv, norm)


def test_a_second_derivative_is_refused():
    x, conv, norm = build((3, 4, 5, 3), 1, 24)
    (grad,) = torch.autograd.grad(pooled_conv_norm(x, conv, norm).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_shapes_without_values(training):
    x, conv, norm = build((3, 4, 5, 3), 1, 24, training=training)
    pooled = pooled_conv_norm(x.detach().to("meta"), conv.to("meta"), norm.to("meta"))
    assert pooled.shape == (3, 24) and pooled.is_meta


class _Pooled(nn.Module):
    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x):
        return pooled_conv_norm(x, self.conv, self.norm)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_compiles_and_exports(kernel_size):
    x, conv, norm = build((3, 4, 5, 3), kernel_size, 24, padding=kernel_size // 2)
    x = x.detach()
    module = _Pooled(conv, norm)
    for training in (True, False):
        ours, theirs = copy.deepcopy(module).train(training), copy.deepcopy(module).train(training)
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        out, expected = compiled(x), theirs(x)
        close(out, expected)
        for a, b in zip((out * out).sum().backward() or ours.buffers(), theirs.buffers()):
            close(a, b)
        (expected * expected).sum().backward()
        for a, b in zip(ours.parameters(), theirs.parameters()):
            close(a.grad, b.grad, 1e-11)

    module.eval()
    batch, height = torch.export.Dim("batch"), torch.export.Dim("height")
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: batch, 2: height},)).module()
    other = torch.randn(2, 4, 9, 3, dtype=torch.float64)
    close(exported(other), module(other))
    assert not any("conv2d" in str(node.target) for node in exported.graph.nodes)
    traced = torch.jit.trace(module, x)
    close(traced(other), module(other))


@pytest.mark.parametrize(
    "shape, out, cheaper", [((8, 256, 14, 14), 1024, True), ((8, 512, 7, 7), 2048, False)]
)
def test_the_route_is_chosen_by_what_it_costs(shape, out, cheaper):
    conv = nn.Conv2d(shape[1], out, 1, bias=False)
    assert pooled_norm.covariance_is_cheaper(conv, shape[0] * shape[2] * shape[3]) is cheaper
