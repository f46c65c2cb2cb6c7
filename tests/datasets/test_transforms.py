"""Crops, against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import five_crop

pytest.importorskip("mmpretrain")

from attn_mm.datasets.transforms import CORNERS, CornerCrop, CropToBox


@pytest.mark.parametrize(("height", "width"), [(32, 47), (48, 33), (24, 24), (25, 27)])
def test_corner_crops_are_torchvisions_five(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    wanted = five_crop(torch.from_numpy(image).permute(2, 0, 1), 24)
    for corner, crop in zip(CORNERS, wanted, strict=True):
        result = CornerCrop(24, corner)({"img": image})
        assert result["img_shape"] == (24, 24)
        assert np.array_equal(result["img"], crop.permute(1, 2, 0).numpy()), corner


def test_what_cannot_be_cropped():
    with pytest.raises(ValueError, match=r"corner must be one of top left, .*, got 'middle'"):
        CornerCrop(8, "middle")
    with pytest.raises(ValueError, match="an image of 9 x 7 pixels is smaller than the crop of 8 x 8"):
        CornerCrop(8, "centre")({"img": np.zeros((7, 9, 3), np.uint8)})


def test_an_image_without_a_box_stays_whole():
    image = np.zeros((7, 9, 3), np.uint8)
    assert CropToBox()({"img": image})["img"] is image
