"""mmpretrain's Lighting on pixels at the ends of their range."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmpretrain")


def test_white_and_black_stay_white_and_black():
    from mmpretrain.datasets.transforms import Lighting

    light = Lighting(eigval=[60.0, 0.0, 0.0], eigvec=[[1.0, 0.0, 0.0]] * 3, alphastd=1.0)
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    np.random.seed(0)  # the transform draws from NumPy's global generator
    for _ in range(20):
        lit = light.transform({"img": image.copy()})["img"]
        assert lit.dtype == np.uint8
        # One colour is added to all pixels: white can only darken, black can only brighten.
        assert (lit[0] == 255).all() or (lit[1] == 0).all()
    grey = light.transform({"img": np.full((2, 2, 3), 128, np.uint8)})["img"]
    assert (grey == grey[0, 0]).all()
