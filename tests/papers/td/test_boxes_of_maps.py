"""Boxes of maps, their overlap and the accuracies of localisation, against pixels and loops."""

from __future__ import annotations

import numpy as np
import pytest

from attn_mm.papers.td.boxes_of_maps import Localised, iou, localisation_metrics, map_box
from attn_mm.papers.td.step_predictions import most_confident, unique_steps


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


def test_localisation_accuracies():
    good, bad = [0, 0, 10, 10], [20, 20, 30, 30]
    half, less = [0, 0, 10, 5], [0, 0, 10, 4.9]
    images = [
        # The class and its box are right; of two objects one is enough.
        Localised({0: [good, bad]}, [0, 1], {0: half, 1: bad}),
        # The class is right, the box isn't quite.
        Localised({0: [good]}, [0, 1], {0: less, 1: good}),
        # The class is second, its box right.
        Localised({1: [bad]}, [0, 1], {0: bad, 1: bad}),
        # It is not among the best, and the map speaks for nothing.
        Localised({2: [good]}, [0, 1], {0: good, 1: good, 2: None}),
        # Two classes in one image: the first is not localised, the second is, and is the third best.
        Localised({0: [good], 3: [bad]}, [0, 1, 3], {0: bad, 1: bad, 3: bad}),
    ]
    found = localisation_metrics(images)
    assert found["top1"] == pytest.approx(3 / 5)
    assert found["top1_loc"] == pytest.approx(1 / 5)
    assert found["top5"] == pytest.approx(4 / 5)
    assert found["top5_loc"] == pytest.approx(3 / 5)
    # Class 0: 1 of 3; class 1: 1 of 1; class 2: 0 of 1; class 3: 1 of 1.
    assert found["known_loc"] == pytest.approx(3 / 6)
    assert found["corloc"] == pytest.approx((1 / 3 + 1 + 0 + 1) / 4)


def test_the_most_confident_step_counts():
    scores = np.array([[[0.5, 0.5], [0.1, 0.9], [0.3, 0.7]], [[0.6, 0.4], [0.2, 0.8], [0.7, 0.3]]])
    assert most_confident(scores).tolist() == [1, 0, 0]


def test_of_steps_with_the_same_map_the_more_confident_counts():
    here, nearly, elsewhere, half = [0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 5]
    assert unique_steps([0.2, 0.5, 0.4], [here, nearly, elsewhere]) == [1, 2]
    assert unique_steps([0.5, 0.2], [here, half]) == [0]
    assert unique_steps([0.5, 0.2], [here, [0, 0, 10, 4]]) == [0, 1]
    assert unique_steps([0.5, 0.2], [here, None]) == [0]
    assert unique_steps([0.5, 0.6], [here, None]) == [1, 0]
