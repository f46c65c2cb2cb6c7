"""Two processes with a part of the batch each compute what one process computes on the whole of it."""

from __future__ import annotations

import copy
from datetime import timedelta
from itertools import pairwise
from unittest import mock

import mmengine.model
import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from attn_mm.layers import ANAR, MFBN, R2DNS, MFBN2d, MFSyncBN, convert_multi_flow, flow
from attn_mm.layers.ops.sync_norm import sync_batch_norm
from attn_mm.registry import MODELS

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
PARTS = (slice(0, 3), slice(3, 5))  # unequal on purpose

# name: (shape of the joint batch, options of the norm, flows in the order they run)
NORMS = {
    "2d": ((5, 4, 3, 6), {}, (0, 2, 0)),
    "3d": ((5, 4, 2, 3, 4), dict(eps=1e-2), (1, 1)),
    "vectors": ((5, 4), dict(momentum=0.4), (2,)),
    "cumulative": ((5, 4, 3, 3), dict(momentum=None), (0, 0, 1, 0)),
    "no affine": ((5, 4, 3, 3), dict(affine=False), (0,)),
    "no running statistics": ((5, 4, 3, 3), dict(track_running_stats=False), (0,)),
}


def run_norm(cls, name, part, rounding=torch.float64, dtype=torch.float64):
    """Outputs, gradients and statistics of a norm that trained on ``part`` of the joint batches.

    The inputs are rounded to ``rounding`` and come as ``dtype``.
    """
    shape, options, flows = NORMS[name]
    generator = torch.Generator().manual_seed(1)
    norm = cls(4, 3, **options).double()
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.uniform_(norm.bias, generator=generator)
    if dtype == torch.bfloat16:
        norm.float()
    outputs, input_grads = [], []
    for step, index in enumerate(flows):
        # The parts' means differ widely, so that their own statistics would be far from the joint ones.
        x, weights = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        x = x + torch.arange(5).view(-1, *[1] * (len(shape) - 1)) * (step + 1)
        x, weights = (t[part].to(rounding).to(dtype) for t in (x, weights))
        x.requires_grad_()
        with flow(index):
            y = norm(x)
        (y * weights).sum().backward()
        outputs.append(y.detach())
        input_grads.append(x.grad)
    return {
        "outputs": outputs,
        "input_grads": input_grads,
        "grads": [p.grad for p in norm.parameters()],
        "state": norm.state_dict(),
    }


def network():
    """A small R2DNS in float64 with trained BN in stages and attentions."""
    torch.manual_seed(2)
    widths = (3, 4, 6, 5)
    stages = [
        nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
        for i, o in pairwise(widths)
    ]
    anars = [ANAR(c, depth, width=32) for c, depth in zip(widths[1:-1], (5, 3))]
    return convert_multi_flow(R2DNS(stages, anars, 3), 3).double()


def run_network(net, part, scale=1.0):
    """Outputs, gradients and statistics of ``net`` after two steps on ``part`` of the joint batches."""
    generator = torch.Generator().manual_seed(3)
    result = {"outputs": []}
    for _ in range(2):
        x = torch.randn(5, 3, 37, 46, generator=generator, dtype=torch.float64)
        x = x * torch.linspace(0.5, 2, 5).view(-1, 1, 1, 1)
        loss = 0.0
        for y in net(x[part]):
            weights = torch.randn(5, *y.shape[1:], generator=generator, dtype=torch.float64)
            loss = loss + scale * (weights[part] * y).sum()
            result["outputs"].append(y.detach())
        loss.backward()
    net = getattr(net, "module", net)
    result["grads"] = {name: p.grad for name, p in net.named_parameters()}
    result["state"] = net.state_dict()
    return result


GRAFTS = {
    "AWConv and CBAM": [
        dict(type="attn_mm.AWConv", convs=("conv1",)),
        dict(type="attn_mm.CBAM", reduction=2),
    ],
    "TDAF": [dict(type="attn_mm.TDAF", flows=2, width=32)],
}


def run_grafted(name, norm, part):
    """Output, gradients and statistics of a grafted backbone after one step on ``part`` of two images."""
    torch.manual_seed(4)
    backbone = dict(
        type="attn_mm.WideResNet", depth=10, widen_factor=1, base_channels=4, norm_cfg=dict(type=norm)
    )
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=GRAFTS[name])).double()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    (y,) = net.train()(x[part])
    weights = torch.randn(2, *y.shape[1:], dtype=torch.float64)
    (y * weights[part]).sum().backward()
    return {
        "outputs": [y.detach()],
        "grads": {key: p.grad for key, p in net.named_parameters()},
        "state": net.state_dict(),
    }


def on_any_device(norm, x):
    """What torch's own SyncBatchNorm computes, which refuses tensors on a CPU."""
    norm.num_batches_tracked += 1
    return sync_batch_norm(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
    )


def one_of_two_processes(rank, folder):
    torch.set_num_threads(1)
    meet = dict(init_method=f"file://{folder}/meet", world_size=2, timeout=timedelta(minutes=2))
    torch.distributed.init_process_group("gloo", rank=rank, **meet)
    result = {name: run_norm(MFSyncBN, name, PARTS[rank]) for name in NORMS}
    result["bfloat16"] = run_norm(MFSyncBN, "2d", PARTS[rank], torch.bfloat16, torch.bfloat16)

    norm = MFSyncBN(4, 1).double()
    groups = [torch.distributed.new_group([r]) for r in range(2)]
    norm.process_group = groups[rank]
    x = torch.randn(3, 4, 5, dtype=torch.float64) + rank
    result["alone in its group"] = norm(x), nn.BatchNorm1d(4).double()(x)
    result["in eval mode"] = (
        norm.eval()(x),
        (x - norm.running_mean[0][:, None]) / (norm.running_var[0][:, None] + 1e-5).sqrt(),
    )

    net = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    # DDP averages over the processes where the joint batch's loss sums.
    ddp = DistributedDataParallel(net, broadcast_buffers=False)
    result["network"] = run_network(ddp, PARTS[rank], scale=2.0)

    with mock.patch.object(nn.SyncBatchNorm, "forward", on_any_device):
        for name in GRAFTS:
            result[name] = run_grafted(name, "SyncBN", slice(rank, rank + 1))
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    # A spawned process imports the function by the name of its module, which must be on its path.
    from layers.ops.test_sync_norm import one_of_two_processes

    folder = tmp_path_factory.mktemp("processes")
    # This process is the second: another would take some seconds to import what this one has.
    first = torch.multiprocessing.spawn(one_of_two_processes, (str(folder),), nprocs=1, join=False)
    one_of_two_processes(1, str(folder))
    while not first.join():
        pass
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def joined(two_processes, name, what):
    return [torch.cat(parts) for parts in zip(*[process[name][what] for process in two_processes])]


def assert_same_state(states, expected):
    for state in states:
        assert state.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, **TOLERANCE, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", NORMS)
def test_norm_equals_the_joint_batch(two_processes, name):
    expected = run_norm(MFBN, name, slice(None))
    torch.testing.assert_close(joined(two_processes, name, "outputs"), expected["outputs"], **TOLERANCE)
    torch.testing.assert_close(
        joined(two_processes, name, "input_grads"), expected["input_grads"], **TOLERANCE
    )
    # DDP adds the processes' gradients of the parameters, so each process has the sum over its own part.
    sums = [a + b for a, b in zip(*[process[name]["grads"] for process in two_processes])]
    torch.testing.assert_close(sums, expected["grads"], **TOLERANCE)
    assert_same_state([process[name]["state"] for process in two_processes], expected["state"])


def test_bfloat16_inputs_are_normalized_in_float32(two_processes):
    exact = run_norm(MFBN, "2d", slice(None), torch.bfloat16)
    for what in ("outputs", "input_grads"):
        for ours, theirs in zip(joined(two_processes, "bfloat16", what), exact[what]):
            assert ours.dtype == torch.bfloat16
            # The result's own rounding is all that is lost: half of 2^-7 of it.
            torch.testing.assert_close(ours.double(), theirs, rtol=2**-8 + 1e-5, atol=1e-5)
    for process in two_processes:
        for name in ("running_mean", "running_var"):
            ours = process["bfloat16"]["state"][name]
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours.double(), exact["state"][name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["alone in its group", "in eval mode"])
def test_no_other_process_is_asked(two_processes, name):
    for process in two_processes:
        torch.testing.assert_close(*process[name], **TOLERANCE)


def test_network_with_ddp_equals_the_joint_batch(two_processes):
    net = network()
    expected = run_network(net, slice(None))
    torch.testing.assert_close(joined(two_processes, "network", "outputs"), expected["outputs"], **TOLERANCE)
    for process in two_processes:
        grads = process["network"]["grads"]
        assert grads.keys() == expected["grads"].keys()
        for name, grad in expected["grads"].items():
            torch.testing.assert_close(grads[name], grad, **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    assert_same_state([process["network"]["state"] for process in two_processes], expected["state"])


@pytest.mark.parametrize("name", GRAFTS)
def test_grafted_norms_follow_a_synchronized_backbone(two_processes, name):
    """An image per process: alone, a norm of an AW-convolution would see nine values of it, or one."""
    expected = run_grafted(name, "BN", slice(None))
    torch.testing.assert_close(joined(two_processes, name, "outputs"), expected["outputs"], **TOLERANCE)
    for key, grad in expected["grads"].items():
        both = sum(process[name]["grads"][key] for process in two_processes)
        torch.testing.assert_close(both, grad, **TOLERANCE, msg=lambda m, k=key: f"{k}: {m}")
    assert_same_state([process[name]["state"] for process in two_processes], expected["state"])


def torch_convert(net):
    return nn.SyncBatchNorm.convert_sync_batchnorm(net)


def mmengine_convert(net):
    return mmengine.model.convert_sync_batchnorm(net, "torch")


def runner_convert(net):
    from mmengine.runner import runner

    return runner.convert_sync_batchnorm(net)


CONVERSIONS = pytest.mark.parametrize("convert", [torch_convert, mmengine_convert, runner_convert])


@CONVERSIONS
def test_conversion_keeps_flows_parameters_and_statistics(convert):
    net = network()
    net(torch.randn(2, 3, 33, 33, dtype=torch.float64))
    net.eval().plain = nn.BatchNorm2d(2)
    before = copy.deepcopy(net.state_dict())
    parameters = dict(net.named_parameters())
    flows = sum(isinstance(m, MFBN) for m in net.modules())
    converted = convert(net)
    assert sum(type(m) is MFSyncBN and m.num_flows == 3 for m in converted.modules()) == flows
    assert sum(type(m) is nn.SyncBatchNorm for m in converted.modules()) == 1
    assert dict(converted.named_parameters()).keys() == parameters.keys()
    assert all(p is parameters[name] for name, p in converted.named_parameters())
    assert_same_state([converted.state_dict()], before)
    assert not converted.stages[0][1].training


@CONVERSIONS
def test_conversion_twice_and_of_a_bare_norm(convert):
    norm = convert(MFBN2d(4, 2, momentum=None, eps=1e-3))
    assert type(norm) is MFSyncBN and (norm.momentum, norm.eps, norm.num_flows) == (None, 1e-3, 2)
    assert convert(norm) is norm


def test_conversion_takes_the_process_group():
    group = object()
    net = nn.Sequential(MFBN2d(4, 2))
    assert nn.SyncBatchNorm.convert_sync_batchnorm(net, group)[0].process_group is group


def test_synchronized_norms_survive_reverting_and_run_in_one_process():
    net = network()
    twin = copy.deepcopy(net)
    reverted = revert_sync_batchnorm(torch_convert(net))
    assert any(isinstance(m, MFBN) for m in reverted.modules())
    x = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    torch.testing.assert_close(reverted(x), twin(x), **TOLERANCE)
    assert_same_state([reverted.state_dict()], twin.state_dict())


def test_a_synchronized_batch_norm_becomes_a_synchronized_multi_flow_one():
    group = object()
    norm = convert_multi_flow(nn.SyncBatchNorm(4, process_group=group), 2)
    assert type(norm) is MFSyncBN and norm.process_group is group
