"""A gate at the end of a residual branch adds the shortcut as well, where nobody could notice."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from grafted import build, in_mode, outputs, picture, shake
from layers import reference_gates as reference
from mmengine.registry import MODELS
from thinned import thinned
from torch.nn.modules.module import register_module_forward_hook
from torchvision.models import resnet18

from attn_mm import attach
from attn_mm.graft.blocks import AttendedMixin
from attn_mm.graft.fuse import fuse
from attn_mm.layers import SE, TAM
from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.recording import record_attention

TREE = dict(type="attn_mm.TAM")
R50, R3D, MOBILE = ("mmpretrain.ResNet", 50), ("mmaction.ResNet3d", 18), ("mmpretrain.MobileNetV2", None)
CHANNELS = [dict(type=f"attn_mm.{name}") for name in ("SE", "ECA", "FCA", "CBAM")]
NETS = [
    (R50, [TREE]),
    (R50, [dict(TREE, position="after_conv2"), dict(type="attn_mm.SE"), TREE]),
    (R50, [TREE, dict(type="attn_mm.SE")]),
    (R50, [TREE, dict(type="attn_mm.TD", distance=2)]),
    (R50, [TREE, dict(type="attn_mm.TD", distance=0)]),
    (R3D, [TREE]),
    (MOBILE, [TREE]),
    (R50, [dict(gate, stages=(stage,)) for stage, gate in enumerate(CHANNELS)]),
    (R3D, [dict(type="attn_mm.CBAM", spatial=False)]),
]
EVERY = pytest.mark.parametrize("backbone, grafts", thinned(NETS, NETS[1::2] + NETS[-2:], True))


def made(backbone, grafts, **options):
    net = build(backbone, grafts, out_indices=(0, 1, 2, 3) if backbone != MOBILE else (2, 7), **options)
    shake(net)
    for tam in (module for module in net.modules() if isinstance(module, TAM)):
        reference.randomize(tam)
    return in_mode(net.double(), False), picture(backbone).double()


@pytest.fixture
def sums(monkeypatch):
    """The gates that have added a shortcut."""
    seen, add_to = [], TAM.add_to
    monkeypatch.setattr(TAM, "add_to", lambda self, *maps: (seen.append(self), add_to(self, *maps))[1])
    return seen


@EVERY
def test_the_sum_is_that_of_the_formulas(backbone, grafts):
    net, x = made(backbone, grafts)
    with as_written():
        written = [y.detach() for y in outputs(net, x)]
    with torch.no_grad():
        reference.assert_near(outputs(net, x), written, 1e-12)
        reference.assert_near(outputs(net, x), written, 1e-12)
        fuse(net)
        reference.assert_near(outputs(net, x), written, 1e-10)


def test_it_is_taken_in_every_block(sums):
    net, x = made(R50, [TREE])
    with torch.no_grad():
        net(x)
    assert len(sums) == len(set(sums)) == 16


def test_where_a_block_has_no_shortcut_the_gate_is_applied_alone(sums):
    net, x = made(MOBILE, [TREE])
    with torch.no_grad():
        net(x)
    blocks = [block for block in net.modules() if isinstance(block, AttendedMixin)]
    assert 0 < len(sums) == sum(block.use_res_connect for block in blocks) < len(blocks)


def test_what_is_behind_the_gate_or_modulates_it_comes_first(sums):
    for grafts in (NETS[2][1], [TREE, dict(type="attn_mm.TD", distance=0, stages=(0, 1, 2, 3))]):
        net, x = made(R50, grafts)
        with torch.no_grad():
            net(x)
    assert not sums


@pytest.mark.parametrize("mode", ["as written", "wide kernels"])
def test_formulas_as_written_and_wide_kernels_are_added_by_the_block(mode, sums):
    net, x = made(R50, [dict(TREE, kernel_size=3 if mode == "wide kernels" else 1)])
    with torch.no_grad(), as_written() if mode == "as written" else contextlib.nullcontext():
        net(x)
    assert not sums


@pytest.mark.parametrize("of", ["layer", "sequence"])
def test_a_hook_sees_the_output_without_the_shortcut(of):
    net, x = made(R50, [TREE])
    layers = net.layer2[1].attn["conv3"]
    seen = []
    handle = (layers if of == "sequence" else layers[0]).register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.no_grad():
        net(x)
        with as_written():
            net(x)
    handle.remove()
    written = seen.pop()
    reference.assert_near(seen, [written], 1e-12)


def test_gates_are_seen_as_ever():
    net, x = made(R50, [TREE])
    tam = net.layer3[2].attn["conv3"][0]
    found = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), tam.gate_statistics() as statistics:
            net(x)
        with torch.set_grad_enabled(enabled), record_attention(net) as maps:
            net(x)
        moments = torch.tensor([statistics.mean, statistics.variance])
        found.append([moments, *(attention.values for attention in maps)])
    assert all(values.std() > 1e-8 for values in found[0])
    reference.assert_near(*found, 1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """One rounding instead of two: nearer to the exact sum."""
    layer = TAM(16)
    x, shortcut = torch.randn(2, 2, 16, 5, 5).to(dtype)
    with torch.no_grad():
        exact = shortcut.float() + layer(x.float())
        found = layer.add_to(shortcut, x.clone())
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype), rtol=0, atol=0)


BEHIND_UNITS = {
    "SE": dict(reduction=4),
    "ECA": {},
    "FCA": dict(reduction=4),
    "CBAM": dict(reduction=4),
    "TAM": {},
}


def block_of(grafts, drop_path_rate=0.0):
    """A network whose only blocks with attention are two of basic layers."""
    stages = dict(depth=18, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    narrow = dict(stem_channels=16, base_channels=16, drop_path_rate=drop_path_rate)
    backbone = dict(type="mmpretrain.ResNet", **stages, **narrow)
    pytest.importorskip("mmpretrain.models")
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=grafts))
    return shake(net).double()


@pytest.mark.parametrize("kind", BEHIND_UNITS)
def test_training_adds_in_the_same_pass_with_the_gradients_of_the_formulas(kind, monkeypatch):
    net = block_of([dict(type=f"attn_mm.{kind}", **BEHIND_UNITS[kind])]).train()
    layer = net.layer1[0].attn["conv2"][0]
    added, add_to = [], type(layer).add_to
    monkeypatch.setattr(type(layer), "add_to", lambda self, *a: (added.append(self), add_to(self, *a))[1])
    runs, image = [], picture(R50).double()
    for way in (as_written, contextlib.nullcontext):
        twin, x = copy.deepcopy(net), image.clone().requires_grad_()
        with way():
            (y,) = twin(x)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y))
        runs.append([y, x.grad, *(p.grad for p in twin.parameters()), *twin.buffers()])
    assert len(added) == 2
    for found, expected in zip(*runs):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_a_dropped_path_is_dropped_behind_its_gate(monkeypatch):
    net = block_of([dict(type="attn_mm.SE", reduction=4)], drop_path_rate=0.5)
    added, add_to = [], SE.add_to
    monkeypatch.setattr(SE, "add_to", lambda self, *a: (added.append(self), add_to(self, *a))[1])
    x = picture(R50).double()
    for training, of_two in ((True, 1), (False, 2)):
        net.train(training)
        maps = []
        for way in (as_written, contextlib.nullcontext):
            torch.manual_seed(0)
            with way():
                maps.append(net(x)[0])
        # The first block of a network drops nothing.
        assert len(added) == of_two
        added.clear()
        torch.testing.assert_close(*maps, rtol=1e-11, atol=1e-11)


def test_a_forward_of_ones_own_is_called():
    class Halving(SE):
        def forward(self, x):
            return super().forward(x) / 2

    net = block_of([dict(type=Halving, reduction=4)]).eval()
    assert isinstance(net.layer1[0].attn["conv2"][0], Halving)
    x = picture(R50).double()
    with torch.no_grad(), as_written():
        written = net(x)
    with torch.no_grad():
        torch.testing.assert_close(net(x), written, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["SE", "CBAM", "TAM"])
def test_autocast_and_shortcuts_of_another_type(kind):
    """A float32 shortcut stays float32 beside a branch in bfloat16."""
    net = block_of([dict(type=f"attn_mm.{kind}", **BEHIND_UNITS[kind])]).float().eval()
    x = picture(R50)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), torch.autocast("cpu", torch.bfloat16):
            found = net(x)[0]
            with as_written():
                written = net(x)[0]
        assert found.dtype == written.dtype
        torch.testing.assert_close(found, written, rtol=0.05, atol=0.05)


def kept_norms(net, watch, x):
    """What the last norms give in inference to a hook that keeps it, put there by ``watch``."""
    kept = []
    keep = watch(lambda module, _, out: kept.append(out) if module is net.layer1[0].norm2 else None)
    with torch.no_grad(), keep:
        net(x)
    return kept


@pytest.mark.parametrize("kind", ["SE", "CBAM"])
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_hook_keeps_what_the_last_norm_gave(kind, everywhere):
    net = block_of([dict(type=f"attn_mm.{kind}", reduction=4)]).eval()
    add_hook = register_module_forward_hook if everywhere else net.layer1[0].norm2.register_forward_hook

    @contextlib.contextmanager
    def watch(hook):
        handle = add_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    x = picture(R50).double()
    (found,) = kept_norms(net, watch, x)
    with as_written():
        (written,) = kept_norms(net, watch, x)
    torch.testing.assert_close(found, written, rtol=1e-12, atol=1e-12)


class Wrapped(torch.nn.Module):
    def __init__(self, in_channels):
        super().__init__()
        self.part = SE(in_channels, reduction=4)

    def forward(self, x):
        return self.part(x)


@pytest.mark.parametrize("behind", [["SE"], ["CBAM"], []], ids=str)
def test_a_hook_keeps_what_a_part_of_a_layer_gave(behind):
    """Of an earlier layer than the gate that adds, or of the last one."""
    grafts = [dict(type=f"attn_mm.{kind}", reduction=4) for kind in behind]
    net = block_of([dict(type=Wrapped), *grafts]).eval()
    kept = []
    net.layer1[0].attn["conv2"][0].part.register_forward_hook(lambda *a: kept.append((a[2], a[2].clone())))
    with torch.no_grad():
        net(picture(R50).double())
    assert torch.equal(*kept[0])


def test_hooks_of_all_modules_see_the_layers():
    net = block_of([dict(type="attn_mm.SE", reduction=4)]).eval()
    seen = []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module)))
    try:
        net(picture(R50).double())
    finally:
        handle.remove()
    assert seen.count(SE) == 2


@pytest.mark.parametrize("kind", ["SE", "CBAM", "TAM"])
def test_transforms_of_functions_in_inference(kind):
    net = block_of([dict(type=f"attn_mm.{kind}")]).eval()
    x = picture(R50).double()
    with torch.no_grad():
        (mapped,) = torch.func.vmap(net)(x[None])
        torch.testing.assert_close(mapped[0], net(x)[0], rtol=1e-9, atol=1e-9)
        _, (slope,) = torch.func.jvp(net, (x,), (x,))
    assert slope.isfinite().all()


@pytest.mark.parametrize("grafts", [[dict(type="attn_mm.SE")], [dict(type="attn_mm.TD", stages=(0,))]])
def test_a_trace_is_the_same_with_gradients_and_without(grafts):
    """torch.jit.trace checks its trace without them."""
    net = block_of(grafts).eval()
    x = picture(R50).double()
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            torch.testing.assert_close(torch.jit.trace(net, x)(x), net(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["SE", "CBAM", "TAM"])
def test_a_network_is_traced_by_torch_fx(kind):
    net = resnet18()
    attach(net, kind).eval()
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(torch.fx.symbolic_trace(net)(x), net(x), rtol=1e-4, atol=1e-4)
