"""timm's attention layers by name, at every place."""

import pytest
import torch

from attn_mm.layers.recording import record_attention
from attn_mm.layers.timm_layer import TimmLayer, timm_layers

timm = pytest.importorskip("timm")

SIZES = {"bat": (14, 14)}
"""Maps of layers that can't take all: that one works on squares of 7."""

WANT_MORE = {"bottleneck": "feat_size", "ge": "act_layer"}
"""Layers that channels alone don't build, and what their error must name."""


def test_the_list_is_timms_own():
    from timm.layers import get_attn

    names = timm_layers()
    assert {"coord", "se", "ese", "eca", "ecam", "ceca", "gc", "gca", "cbam", "lcbam", "sk", "splat"} < set(
        names
    )
    assert all(get_attn(name) for name in names) and len(set(names)) == len(names)


@pytest.mark.parametrize("name", timm_layers())
def test_keeps_the_shape_or_says_what_it_wants(name):
    try:
        layer = TimmLayer(64, name)
    except ValueError as error:
        assert name in WANT_MORE and WANT_MORE[name] in str(error)
        assert f"timm can't build {name!r} for 64 channels" in str(error)
        return
    x = torch.randn(2, 64, *SIZES.get(name, (16, 16)), requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_the_result_is_timms():
    torch.manual_seed(0)
    layer = TimmLayer(32, "coord", rd_ratio=0.25).eval()
    x = torch.randn(2, 32, 6, 5)
    assert torch.equal(layer(x), layer.layer(x)) and layer.layer.conv1.out_channels == 8


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(name="corod"), "timm has no attention layer 'corod': name one of se, "),
        (dict(name="se", ratio=3), "its options: rd_ratio, "),
        (dict(name="se", rd_channels="x"), "timm can't build 'se' for 32 channels"),
    ],
)
def test_a_wrong_option(options, reason):
    with pytest.raises(ValueError) as error:
        TimmLayer(32, **options)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_size_that_it_can_not_take():
    with pytest.raises(ValueError, match="'bat' can't take maps of 16x16"):
        TimmLayer(64, "bat")(torch.zeros(1, 64, 16, 16))


def test_video_is_refused():
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\)"):
        TimmLayer(32, "se")(torch.zeros(1, 32, 2, 4, 4))


@torch.no_grad()
@pytest.mark.parametrize(
    "name, over", [("se", ["channels"]), ("cbam", ["channels", "positions"]), ("coord", ["positions"] * 2)]
)
def test_its_gates_are_recorded(name, over):
    torch.manual_seed(0)
    layer = TimmLayer(32, name).eval()
    x = torch.randn(2, 32, 6, 5)
    with record_attention(layer) as maps:
        y = layer(x)
    assert torch.equal(y, layer(x))
    assert [item.kind.over for item in maps] == over
    assert all(item.values.shape[0] == 2 and item.values.dim() == 4 for item in maps)
    assert all(((item.values >= 0) & (item.values <= 1)).all() for item in maps)
    if name == "se":
        torch.testing.assert_close(x * maps[0].values, y)
