"""The figures and the small arrays of an attention are those of plain loops."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from attn_mm.maps.values import at_frame, histogram, packed, reduced, summarise


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_summary(random):
    values = random.normal(3, 2, (4, 5))
    flat = values.ravel().tolist()
    mean = sum(flat) / 20
    spread = math.sqrt(sum((value - mean) ** 2 for value in flat) / 20)
    assert summarise(values) == pytest.approx(dict(mean=mean, spread=spread, min=min(flat), max=max(flat)))


@pytest.mark.parametrize(("length", "frames"), [(2, 8), (3, 3), (4, 2), (1, 5)])
def test_a_frames_map_lies_between_those_of_the_clip(random, length, frames):
    values = random.normal(size=(length, 2, 3))
    for index in range(frames):
        # The middle of the frame, among the middles of the map's, of which the outer ones are held.
        at = min(max((index + 0.5) / frames * length - 0.5, 0), length - 1)
        before, after = values[math.floor(at)], values[math.ceil(at)]
        np.testing.assert_allclose(at_frame(values, index, frames), before + (at % 1) * (after - before))


def test_large_maps_are_averaged(random):
    values = random.normal(size=(12, 20))
    small = reduced(values, 5)
    assert small.shape == (3, 5)
    for i in range(3):
        for j in range(5):
            cells = values[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].ravel().tolist()
            assert small[i, j] == pytest.approx(sum(cells) / 16)
    assert np.array_equal(reduced(values, 20), values)
    assert reduced(values, 7).shape == (4, 7)


@pytest.mark.parametrize("span", [1.0, 1e-9, 0.0])
def test_packed_values_are_near(random, span):
    values = 0.3 + span * random.uniform(size=(3, 7))
    found = packed(values)
    levels = np.frombuffer(base64.b64decode(found["levels"]), np.uint8).reshape(found["size"])
    unpacked = found["low"] + levels / 255 * (found["high"] - found["low"])
    assert np.abs(unpacked - values).max() <= span / 510 + 1e-15


def test_histogram():
    values = [0.0, 0.24, 0.25, 0.5, 0.99, 1.0]
    assert histogram(np.array(values), (0, 1), 4) == [2, 1, 1, 2]
    assert histogram(1 + np.array(values), (1, 2), 2) == [3, 3]
