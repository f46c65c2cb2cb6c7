"""Boxes of maps and their overlap, against pixels and loops."""

from __future__ import annotations

import numpy as np
import pytest

from attn_mm.maps.boxes import iou, map_box


def segments(hot: np.ndarray) -> list[set]:
    """The connected sets of pixels that are set, corners included."""
    left = {(int(y), int(x)) for y, x in np.argwhere(hot)}
    found = []
    while left:
        segment, edge = set(), {left.pop()}
        while edge:
            y, x = edge.pop()
            segment.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge |= near
        found.append(segment)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_box_encloses_the_largest_segment(seed):
    rng = np.random.default_rng(seed)
    heat = rng.random((12, 17)) ** 4
    threshold = 0.15 if seed % 2 else 0.5
    sizes = sorted(segments(heat >= threshold * heat.max()), key=len)
    assert len(sizes) > 1
    candidates = [segment for segment in sizes if len(segment) == len(sizes[-1])]
    boxes = []
    for segment in candidates:
        ys, xs = zip(*segment)
        boxes.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1])
    assert map_box(heat, threshold) in boxes


def test_a_map_of_zeros_has_no_box():
    assert map_box(np.zeros((3, 3))) is None


def test_overlap_is_that_of_the_pixels():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (np.sort(rng.integers(0, 12, (2, 2)), axis=0).T for _ in range(2))
        masks = np.zeros((2, 12, 12), bool)
        for mask, (xs, ys) in zip(masks, (a, b)):
            mask[ys[0] : ys[1], xs[0] : xs[1]] = True
        union = (masks[0] | masks[1]).sum()
        expected = (masks[0] & masks[1]).sum() / union if union else 0.0
        found = iou(*([xs[0], ys[0], xs[1], ys[1]] for xs, ys in (a, b)))
        assert found == pytest.approx(expected)
