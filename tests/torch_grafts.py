"""What every graft on a network of torchvision or timm must hold to."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.graft.fuse import fuse
from attn_mm.layers import ANAR, TopDownAttention
from attn_mm.layers.aw_attention import AWAttention
from attn_mm.models.grafting import graft_onto

_attend_to_weights = AWAttention.forward


@contextmanager
def identity() -> Iterator[None]:
    """In this context attention changes nothing; TDAF's masks are 1 with its eta of 0.5."""

    def half(anar, x):
        return x.new_full((len(x), 1, *(2 * side for side in x.shape[2:])), 0.5)

    with (
        mock.patch.object(TopDownAttention, "modulate", lambda attention, bottom, top: bottom),
        mock.patch.object(AWAttention, "forward", lambda attention, x: 0 * _attend_to_weights(attention, x)),
        mock.patch.object(ANAR, "forward", half),
    ):
        yield


def tensors(given) -> list[Tensor]:
    """All tensors that a network returns."""
    if isinstance(given, Tensor):
        return [given]
    return [t for part in (given.values() if isinstance(given, Mapping) else given) for t in tensors(part)]


def shake(net: nn.Module) -> nn.Module:
    """Norms other than at the start, where one is like another."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net


def without_drops(net: nn.Module) -> nn.Module:
    for module in net.modules():
        for name in {"p", "drop_prob", "drop_rate"} & set(vars(module)):
            setattr(module, name, 0.0)
    return net


def run(net: nn.Module, x: Tensor, training: bool) -> list[Tensor]:
    torch.manual_seed(1)
    return tensors(net.train(training)(x))


def check(plain: nn.Module, graft: dict, x: Tensor) -> nn.Module:
    """Graft onto a copy of ``plain``; check keys, results with identity gates, gradients, copies, folding."""
    net = graft_onto(copy.deepcopy(plain), [graft])
    state = net.state_dict()
    for key, value in plain.state_dict().items():
        # A multi-flow norm has its statistics once per flow.
        assert torch.equal(state[key], value.expand_as(state[key])), key
    with identity():
        if graft["type"] == "attn_mm.AWConv":
            # A convolution with a weight for each image adds its bias by itself.
            torch.testing.assert_close(run(net, x[:1], False), run(plain, x[:1], False))
        else:
            for training in (False, True):
                # The statistics of both move on.
                ours, upstream = copy.deepcopy(net), copy.deepcopy(plain)
                if graft["type"] == "attn_mm.TDAF":
                    # Other flows drop other samples.
                    ours, upstream = without_drops(ours), without_drops(upstream)
                assert_equal(run(ours, x, training), run(upstream, x, training))
    known = dict(plain.named_parameters())
    learn(net, x)
    for name, parameter in net.named_parameters():
        if name not in known or known[name].requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    found = run(net, x, False)
    assert_equal(run(copy.deepcopy(net), x, False), found)
    fuse(net)
    torch.testing.assert_close(run(net, x, False), found, rtol=1e-3, atol=1e-4)
    return net


def learn(net: nn.Module, x: Tensor) -> None:
    net.train()
    net.zero_grad()
    sum((torch.randn_like(y) * y).mean() for y in tensors(net(x))).backward()


def assert_equal(ours: list[Tensor], upstream: list[Tensor]) -> None:
    assert [y.shape for y in ours] == [y.shape for y in upstream]
    for y, expected in zip(ours, upstream):
        assert torch.equal(y, expected), (y - expected).abs().max()
