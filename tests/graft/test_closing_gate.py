"""A gate at the end of a residual branch adds the shortcut as well, where nobody could notice."""

from __future__ import annotations

import pytest
import torch
from grafted import backward, build, in_mode, outputs, picture, shake
from layers import reference_gates as reference
from thinned import thinned

from attn_mm.graft.blocks import AttendedMixin
from attn_mm.graft.fuse import fuse
from attn_mm.layers import TAM
from attn_mm.layers.ops.execution import as_written
from attn_mm.layers.recording import record_attention

TREE = dict(type="attn_mm.TAM")
R50, R3D, MOBILE = ("mmpretrain.ResNet", 50), ("mmaction.ResNet3d", 18), ("mmpretrain.MobileNetV2", None)
NETS = [
    (R50, [TREE]),
    (R50, [dict(TREE, position="after_conv2"), dict(type="attn_mm.SE"), TREE]),
    (R50, [TREE, dict(type="attn_mm.SE")]),
    (R50, [TREE, dict(type="attn_mm.TD", distance=2)]),
    (R50, [TREE, dict(type="attn_mm.TD", distance=0)]),
    (R3D, [TREE]),
    (MOBILE, [TREE]),
]
EVERY = pytest.mark.parametrize("backbone, grafts", thinned(NETS, NETS[1::2], True))


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


@pytest.mark.parametrize("mode", ["gradients", "training", "as written", "wide kernels"])
def test_it_is_left_to_inference(mode, sums):
    net, x = made(R50, [dict(TREE, kernel_size=3 if mode == "wide kernels" else 1)])
    if mode == "gradients":
        backward(net(x))
    elif mode == "as written":
        with torch.no_grad(), as_written():
            net(x)
    else:
        net.train(mode == "training")
        with torch.no_grad():
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
