"""Backbones that replay CUDA graphs give what they gave without."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from attn_mm.errors import ConfigError
from attn_mm.graft import cuda_graphs
from attn_mm.graft.early_stop import stopped_after
from attn_mm.graft.graph_cache import RecordedGraph
from attn_mm.layers import TAM, as_written
from attn_mm.layers.recording import record_attention
from attn_mm.papers.tam.open_gates import find_gates, watch

pytest.importorskip("mmpretrain")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

GRAFTS = {
    "TD": dict(type="attn_mm.TD"),
    "AW": dict(type="attn_mm.AWConv"),
    "TAM": dict(type="attn_mm.TAM"),
    "TDAF": dict(type="attn_mm.TDAF"),
    "TDAF on streams": dict(type="attn_mm.TDAF", streams=True),
}
GRAPH = dict(type="attn_mm.CUDAGraph", sizes=2)


def build(*grafts):
    backbone = dict(type="mmpretrain.ResNet", depth=18, base_channels=16, stem_channels=16)
    torch.manual_seed(0)
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=list(grafts)))
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return net.eval()


def test_elsewhere_nothing_changes():
    graft = GRAFTS["TD"]
    plain, net = build(graft), build(GRAPH, graft)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for copied in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            torch.testing.assert_close(copied(x), plain(x), rtol=0, atol=0)
    assert net.load_state_dict(plain.state_dict()).missing_keys == []
    net(x)[0].sum().backward()


@pytest.mark.parametrize("sizes", [0, 1.5, "all"])
def test_sizes_must_be_a_positive_number(sizes):
    with pytest.raises(ConfigError, match=r"graft attn_mm\.CUDAGraph: sizes must be a whole number"):
        build(dict(type="attn_mm.CUDAGraph", sizes=sizes))


def test_nothing_is_replayed_for_whoever_looks_on(monkeypatch):
    class OnDevice:
        is_cuda, device = True, "cuda:1"

    def replays():
        return cuda_graphs._can_replay(net, OnDevice)

    @contextlib.contextmanager
    def on(device):
        assert device == "cuda:1"
        yield

    capturing = []
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: bool(capturing))
    net = build(GRAPH, GRAFTS["TD"], GRAFTS["TAM"])
    assert not replays()
    with torch.no_grad():
        assert replays()
        gate = next(module for module in net.modules() if isinstance(module, TAM))
        feedback = [gate for gate in find_gates(net) if gate.kind == "TopDownAttention"]
        watchers = (
            record_attention(net),
            stopped_after(net, 1),
            gate.gate_statistics(),
            as_written(),
            watch(feedback),
            feedback[0].opened(),
        )
        for watcher in watchers:
            with watcher:
                assert not replays()
            assert replays()
        assert not cuda_graphs._are_hooked(net.modules())
        hook = net.layer4[0].register_forward_hook(print)
        assert cuda_graphs._are_hooked(net.modules())
        hook.remove()
        capturing.append("another graph")
        assert not replays()
        capturing.clear()
        assert replays()
        net.train()
        assert not replays()


def test_hooks_of_the_network_itself_leave_replays_alone_and_it_is_freed(monkeypatch):
    records = []

    def record(forward, x):
        records.append(1)
        return RecordedGraph(SimpleNamespace(replay=lambda: None), x.clone(), forward(x))

    monkeypatch.setattr(cuda_graphs, "_can_replay", lambda net, x: True)
    monkeypatch.setattr(cuda_graphs, "_record", record)
    net, x, seen = build(GRAPH, GRAFTS["TD"]), torch.zeros(1, 3, 32, 32), []
    hook = net.register_forward_hook(lambda *args: seen.append(1))
    with torch.no_grad():
        for _ in range(3):
            net(x)
    assert len(records) == 1 and len(seen) == 3
    hook.remove()
    alive = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert alive() is None
    finally:
        gc.enable()


@cuda
@pytest.mark.parametrize("graft", GRAFTS.values(), ids=GRAFTS)
def test_replays_what_runs_without_graphs(graft, monkeypatch):
    recorded = []
    record = cuda_graphs._record
    monkeypatch.setattr(cuda_graphs, "_record", lambda *args: recorded.append(1) or record(*args))
    plain, net = build(graft).cuda(), build(graft, GRAPH).cuda()

    def same(x, tolerance=1e-4):
        for y, expected in zip(net(x), plain(x), strict=True):
            assert (y - expected).norm() <= tolerance * expected.norm()

    with torch.no_grad():
        for size in (64, 96, 64, 64, 128):
            same(torch.randn(2, 3, size, size, device="cuda"))
        assert len(recorded) == 2
        x = torch.randn(2, 3, 64, 64, device="cuda")
        first = net(x)
        kept = [y.clone() for y in first]
        net(torch.randn_like(x))
        torch.testing.assert_close(first[0], kept[0], rtol=0, atol=0)

        # In place the weights may change, and what replaces them ends the graphs.
        for module in (plain, net):
            for p in module.parameters():
                p.mul_(1.1)
        same(x)
        assert len(recorded) == 2
        for module in (plain, net):
            module.load_state_dict({k: v.clone() for k, v in build(graft).state_dict().items()}, assign=True)
            module.cuda()
        same(x)
        assert len(recorded) == 3
        for _ in range(2):
            with torch.autocast("cuda", torch.bfloat16):
                same(x, 0.05)

        seen = []
        hook = net.layer4.register_forward_hook(lambda *args: seen.append(1))
        net(x)
        assert seen
        hook.remove()
    net(x.requires_grad_())[0].sum().backward()
    assert x.grad is not None
