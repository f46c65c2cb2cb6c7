"""Polygons to pixels: areas, borders, and COCO's codes."""

from __future__ import annotations

import numpy as np
import pytest

from attn_mm.datasets.generated import polygons as raster

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])


def covered(contours, size=32):
    rows, columns, share = raster.coverage(contours, size)
    whole = np.zeros((size, size))
    whole[rows, columns] = share
    return whole


@pytest.mark.parametrize("corner", [(3, 5), (-4, 5), (28, 5), (3, -6), (3, 27), (-5, -5), (26, 30)])
def test_what_leaves_the_image_is_cut_off(corner):
    """A whole square over whole pixels, in every place that a border can cut."""
    expected = np.zeros((32, 32))
    x, y = corner
    expected[max(y, 0) : max(y + 10, 0), max(x, 0) : max(x + 10, 0)] = 1
    assert np.array_equal(covered([SQUARE + corner]), expected)


@pytest.mark.parametrize("corner", [(-30, 5), (50, 5), (5, -30), (5, 50)])
def test_what_is_outside_covers_nothing(corner):
    assert covered([SQUARE + corner]).sum() == 0


def test_a_border_through_pixels_covers_their_share():
    share = covered([np.add(SQUARE, (4.25, 4.5))])
    assert share[10, 4] == 0.75
    assert share[4, 10] == 0.5
    assert share[4, 4] == 0.375
    assert share.sum() == 100


def test_a_hole_is_left_out():
    assert covered([SQUARE + 5, 0.5 * SQUARE + 7]).sum() == 75


def test_the_part_inside_is_the_same_as_in_a_larger_image():
    turned = SQUARE @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    for corner in [(-3.3, 12.1), (25.7, 20.2), (10.4, -4.9)]:
        large = covered([turned + corner + 32], 96)
        assert np.array_equal(covered([turned + corner]), large[32:64, 32:64])


def test_boxes_and_run_lengths():
    mask = np.zeros((4, 3), bool)
    mask[1:3, 1:] = True
    assert raster.box(mask) == [1, 1, 2, 2]
    assert raster.run_lengths(mask) == [5, 2, 2, 2, 1]
    assert raster.run_lengths(~mask) == [0, 5, 2, 2, 2, 1]
