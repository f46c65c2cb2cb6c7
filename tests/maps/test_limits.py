"""Scales of maps: what is shared by which maps, and which maps hardly vary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attn_mm.layers.cbam import POSITIONS
from attn_mm.maps.limits import Look, hardly_varies
from attn_mm.maps.panels import Panel

UNBOUNDED = replace(POSITIONS, bounds=None)


def panel(kind, low, high, layer="a", **place):
    return Panel(kind, np.array([[low, high]]), layer, place)


def test_maps_of_a_layer_share_the_scale_of_values_without_bounds():
    first, second = panel(UNBOUNDED, 0.1, 2.0, step=1), panel(UNBOUNDED, 0.3, 5.0, step=2)
    other, gate = panel(UNBOUNDED, -1.0, 0.5, "b"), panel(POSITIONS, 0.4, 0.6, "c")
    panels = [first, second, other, gate]
    assert Look().limits(panels) == {
        first.key: (0.0, 5.0),
        second.key: (0.0, 5.0),
        other.key: (-1.0, 0.5),
        gate.key: (0.0, 1.0),
    }
    own = Look(scale="own").limits(panels)
    assert own[first.key] == (0.0, 2.0) and own[gate.key] == pytest.approx((0.4, 0.6))


@pytest.mark.parametrize(
    ("kind", "low", "high", "said"),
    [
        (POSITIONS, 0.5, 0.503, "varies by only 0.003"),
        (POSITIONS, 0.5, 0.56, ""),
        (POSITIONS, 0.5, 0.50001, "varies by < 0.0001"),
        (UNBOUNDED, 0.0, 0.0, "does not vary"),
        (UNBOUNDED, 10.0, 10.2, "varies by only 0.2"),
        (UNBOUNDED, 0.0, 1e-6, ""),
    ],
)
def test_what_hardly_varies_is_said(kind, low, high, said):
    assert hardly_varies(kind, low, high) == said
