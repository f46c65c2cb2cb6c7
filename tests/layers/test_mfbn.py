"""MFBN is eq. 4 with one set of running statistics for each flow."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from layers import reference
from torch import nn

from attn_mm.layers import MFBN, MFBN2d, MFBN3d, MFSyncBN, convert_multi_flow, flow
from attn_mm.layers.ops.execution import current_flow

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
SHAPES = {MFBN: (5, 4), MFBN2d: (3, 4, 5, 3), MFBN3d: (2, 4, 3, 2, 5), MFSyncBN: (3, 4, 5, 3)}


def build(cls, num_flows=3, **options):
    """A float64 norm over 4 channels with nothing left at its start value."""
    norm = cls(4, num_flows, **options).double()
    for tensor, low, high in [
        (norm.weight, 0.5, 1.5),
        (norm.bias, -0.5, 0.5),
        (norm.running_mean, -0.5, 0.5),
        (norm.running_var, 0.5, 1.5),
    ]:
        if tensor is not None:
            nn.init.uniform_(tensor, low, high)
    return norm


def naive(norm):
    gamma, alpha = (p.detach().clone().requires_grad_() for p in (norm.weight, norm.bias))
    twin = reference.MultiFlowNorm(gamma, alpha, norm.num_flows, norm.eps, norm.momentum, norm.training)
    twin.mean, twin.var = list(norm.running_mean.clone()), list(norm.running_var.clone())
    return twin


def assert_same_statistics(norm, twin):
    torch.testing.assert_close(norm.running_mean, torch.stack(twin.mean), **TOLERANCE)
    torch.testing.assert_close(norm.running_var, torch.stack(twin.var), **TOLERANCE)
    assert norm.num_batches_tracked.tolist() == twin.batches


@pytest.mark.parametrize("options", [{}, dict(momentum=0.3, eps=1e-2), dict(momentum=None)], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("cls", SHAPES)
def test_equals_eq_4(cls, training, options):
    norm = build(cls, **options).train(training)
    twin = naive(norm)
    for step, n in enumerate([1, 2, 3, 1, 3, 1]):
        ours = (torch.randn(SHAPES[cls], dtype=torch.float64) * (step + 1) + n).requires_grad_()
        theirs = ours.detach().clone().requires_grad_()
        with flow(n - 1):
            out = norm(ours)
        expected = twin(theirs, n)
        torch.testing.assert_close(out, expected, **TOLERANCE)
        weights = torch.randn_like(out)
        (out * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, **TOLERANCE)
        torch.testing.assert_close(norm.weight.grad, twin.gamma.grad, **TOLERANCE)
        torch.testing.assert_close(norm.bias.grad, twin.alpha.grad, **TOLERANCE)
    assert_same_statistics(norm, twin)
    assert twin.batches == ([3, 1, 2] if training else [0, 0, 0])


def test_without_affine_there_is_nothing_to_train():
    norm = MFBN2d(4, 2, affine=False).double()
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    assert not list(norm.parameters())
    twin = reference.MultiFlowNorm(torch.ones(4), torch.zeros(4), 2)
    with flow(0):
        torch.testing.assert_close(norm(x), twin(x, 1), **TOLERANCE)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_without_running_statistics_the_batch_is_used(training):
    norm = MFBN2d(4, 2, track_running_stats=False).double().train(training)
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    twin = reference.MultiFlowNorm(torch.ones(4), torch.zeros(4), 2)
    torch.testing.assert_close(norm(x), twin(x, 2), **TOLERANCE)
    assert norm.running_mean is None and not norm.state_dict().keys() - {"weight", "bias"}


def test_outside_any_flow_the_last_one_runs():
    norm = build(MFBN2d)
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    norm(x)
    assert norm.num_batches_tracked.tolist() == [0, 0, 1]
    norm.eval()
    with flow(2):
        expected = norm(x)
    assert torch.equal(norm(x), expected)


def test_flows_nest_and_end_with_an_exception():
    assert current_flow() is None
    with flow(0):
        with flow(2):
            assert current_flow() == 2
            with flow(None):
                assert current_flow() is None
        assert current_flow() == 0
    with pytest.raises(RuntimeError), flow(1):
        raise RuntimeError
    assert current_flow() is None


def test_threads_have_flows_of_their_own():
    norm = build(MFBN2d)
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    seen, both_inside = {}, threading.Barrier(3, timeout=30)

    def run(index):
        with flow(index):
            both_inside.wait()
            seen[index] = current_flow()
            norm(x)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    both_inside.wait()
    assert current_flow() is None
    for thread in threads:
        thread.join()
    assert seen == {0: 0, 1: 1}
    assert norm.num_batches_tracked.tolist() == [1, 1, 0]


def test_a_compiled_norm_follows_the_flow():
    norm = build(MFBN2d)
    compiled = torch.compile(norm, backend="eager")
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    for index in (0, 1, 1, 2):
        with flow(index):
            compiled(x)
    compiled(x)
    assert norm.num_batches_tracked.tolist() == [1, 2, 2]


def test_the_state_of_a_plain_norm_loads_into_every_flow():
    plain = nn.BatchNorm2d(4).double()
    for _ in range(3):
        plain(torch.randn(SHAPES[MFBN2d], dtype=torch.float64) * 2 + 1)
    nn.init.uniform_(plain.weight)
    given = plain.state_dict()
    before = {key: value.clone() for key, value in given.items()}
    norm = MFBN2d(4, 3).double().eval()
    norm.load_state_dict(given, strict=True)
    assert all(torch.equal(given[key], before[key]) for key in before), "the given state was changed"
    assert norm.num_batches_tracked.tolist() == [3, 3, 3]
    x = torch.randn(SHAPES[MFBN2d], dtype=torch.float64)
    for n in range(3):
        with flow(n):
            torch.testing.assert_close(norm(x), plain.eval()(x), **TOLERANCE)
    with flow(0):
        norm.train()(x)
    assert not torch.equal(norm.running_mean[0], norm.running_mean[1]), "the flows share their memory"
    assert torch.equal(norm.running_mean[1], plain.running_mean)


def test_the_state_of_an_old_norm_without_a_batch_counter_loads():
    state = nn.BatchNorm2d(4).state_dict()
    del state["num_batches_tracked"]
    state._metadata.clear()
    norm = MFBN2d(4, 2)
    norm.load_state_dict(state, strict=True)
    assert norm.num_batches_tracked.tolist() == [0, 0]


@pytest.mark.parametrize("cls", SHAPES)
def test_state_round_trip(cls):
    norm, other = build(cls), build(cls)
    norm(torch.randn(SHAPES[cls], dtype=torch.float64))
    other.load_state_dict(norm.state_dict(), strict=True)
    assert norm.state_dict().keys() == nn.BatchNorm2d(4).state_dict().keys()
    for key, value in norm.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_states_of_other_sizes_are_refused():
    with pytest.raises(RuntimeError, match="running_mean"):
        MFBN2d(4, 3).load_state_dict(MFBN2d(4, 2).state_dict())
    with pytest.raises(RuntimeError, match="running_mean"):
        MFBN2d(4, 3).load_state_dict(nn.BatchNorm2d(5).state_dict())


@pytest.mark.parametrize("cls", [MFBN2d, MFSyncBN])
def test_single_flow_is_batch_norm(cls):
    norm, plain = build(cls, num_flows=1), nn.BatchNorm2d(4).double()
    plain.load_state_dict(
        {key: value.reshape(plain.state_dict()[key].shape) for key, value in norm.state_dict().items()}
    )
    for _ in range(2):
        x = torch.randn(SHAPES[cls], dtype=torch.float64)
        torch.testing.assert_close(norm(x), plain(x), **TOLERANCE)
    torch.testing.assert_close(norm.running_var[0], plain.running_var, **TOLERANCE)


@pytest.mark.parametrize("num_flows", [0, -1])
def test_too_few_flows_are_refused(num_flows):
    with pytest.raises(ValueError, match=f"num_flows must be at least 1, got {num_flows}"):
        MFBN(4, num_flows)


@pytest.mark.parametrize("index", [3, -1])
def test_a_flow_that_the_norm_has_not_is_an_error(index):
    message = f"flow {index} is running, but this norm has num_flows=3"
    with flow(index), pytest.raises(IndexError, match=message):
        MFBN2d(4, 3)(torch.rand(SHAPES[MFBN2d]))


@pytest.mark.parametrize(
    "cls, shape", [(MFBN, (4,)), (MFBN2d, (2, 4, 3)), (MFBN2d, (2, 4, 3, 3, 3)), (MFBN3d, (2, 4, 3, 3))]
)
def test_wrong_dimensions_are_refused(cls, shape):
    with pytest.raises(ValueError, match=rf"{cls.__name__} expects \(N, C.*got {len(shape)} dimensions"):
        cls(4, 2)(torch.rand(shape))


def test_repr_tells_the_flows():
    assert "num_flows=3" in repr(MFBN2d(4, 3))


class TestConversion:
    NORMS = {  # noqa: RUF012
        nn.BatchNorm1d: MFBN,
        nn.BatchNorm2d: MFBN2d,
        nn.BatchNorm3d: MFBN3d,
        nn.SyncBatchNorm: MFSyncBN,
    }

    @pytest.mark.parametrize("plain, expected", NORMS.items(), ids=lambda c: c.__name__)
    def test_parameters_stay_and_statistics_are_copied(self, plain, expected):
        norm = plain(4, eps=1e-3, momentum=0.2).double().eval()
        nn.init.uniform_(norm.running_mean)
        norm.weight.requires_grad_(False)
        net = nn.ModuleDict({"a": nn.Sequential(norm), "b": nn.Linear(2, 2)})
        assert convert_multi_flow(net, 3) is net
        converted = net["a"][0]
        assert type(converted) is expected
        assert converted.weight is norm.weight and converted.bias is norm.bias
        assert (converted.eps, converted.momentum, converted.num_flows) == (1e-3, 0.2, 3)
        assert not converted.training and not converted.weight.requires_grad
        for n in range(3):
            assert torch.equal(converted.running_mean[n], norm.running_mean)
        assert not any(tensor.is_meta for tensor in converted.state_dict().values())

    def test_a_bare_norm_is_replaced(self):
        assert type(convert_multi_flow(nn.BatchNorm2d(4), 2)) is MFBN2d

    def test_timms_norms_keep_dropout_and_activation(self):
        norm_act = pytest.importorskip("timm.layers.norm_act")
        norm = norm_act.BatchNormAct2d(4, act_layer=nn.SiLU, drop_layer=nn.Dropout)
        state = norm.state_dict()
        converted = convert_multi_flow(nn.Sequential(norm), 2)[0]
        assert isinstance(converted, MFBN2d) and list(converted.state_dict()) == list(state)
        x = torch.randn(3, 4, 5, 5)
        assert converted.drop is norm.drop and torch.equal(converted.eval()(x), norm.eval()(x))
        synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(converted)
        assert isinstance(synchronized, MFSyncBN) and synchronized.act is norm.act
        torch.testing.assert_close(synchronized.eval()(x), norm(x))

    def test_multi_flow_norms_are_left_alone(self):
        net = nn.Sequential(nn.BatchNorm2d(4))
        norm = convert_multi_flow(net, 2)[0]
        assert convert_multi_flow(net, 2)[0] is norm

    def test_a_norm_in_two_places_stays_one(self):
        norm = nn.BatchNorm2d(4)
        net = convert_multi_flow(nn.Sequential(norm, nn.Sequential(norm), norm), 2)
        assert type(net[0]) is MFBN2d
        assert net[0] is net[1][0] and net[0] is net[2]

    def test_batch_norms_with_another_forward_are_refused(self):
        class GhostNorm(nn.BatchNorm2d):
            def forward(self, x):
                return torch.cat([super(GhostNorm, self).forward(part) for part in x.chunk(2)])

        message = "GhostNorm has no multi-flow form; supported are BatchNorm1d, BatchNorm2d, "
        with pytest.raises(TypeError, match=message):
            convert_multi_flow(nn.Sequential(nn.Conv2d(1, 4, 1), GhostNorm(4)), 2)

    def test_batch_norms_with_the_forward_of_a_known_one_are_converted(self):
        class AnyShape(nn.SyncBatchNorm):
            def _check_input_dim(self, x):
                pass

        assert type(convert_multi_flow(AnyShape(4), 2)) is MFSyncBN

    def test_a_network_of_one_flow_computes_what_it_did(self):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        )
        net.double()
        converted = convert_multi_flow(copy.deepcopy(net), 3)
        x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
        with flow(1):
            torch.testing.assert_close(converted(x), net(x), **TOLERANCE)
        for n, count in enumerate([0, 1, 0]):
            assert converted[1].num_batches_tracked[n] == count
        torch.testing.assert_close(converted[4].running_var[1], net[4].running_var, **TOLERANCE)
