"""mmaction2's ColorJitter with hues that NumPy 2 can't add to uint8."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmaction")


def test_a_negative_hue_shifts_the_other_way_round():
    from mmaction.datasets.transforms import ColorJitter

    red = np.full((2, 2, 3), (255, 0, 0), np.float32)
    # OpenCV's hues are steps of two degrees; int(-60 / 255 * 255) steps are a third of the circle back.
    assert ColorJitter.adjust_hue(red, -60.5 / 255).tolist() == np.full((2, 2, 3), (0, 0, 255)).tolist()
    assert ColorJitter.adjust_hue(red, 60.5 / 255).tolist() == np.full((2, 2, 3), (0, 255, 0)).tolist()
    # Magenta's 150 steps and 120 more are beyond what uint8 holds: cyan.
    assert ColorJitter.adjust_hue(red + np.float32((0, 0, 255)), 120.5 / 255).tolist()[0][0] == [0, 255, 255]


def test_any_jitter_works():
    from mmaction.datasets.transforms import ColorJitter

    images = [np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)]
    for _ in range(40):
        (image,) = ColorJitter(hue=0.5).transform({"imgs": images})["imgs"]
        assert image.dtype == np.uint8
