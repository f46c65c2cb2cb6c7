"""Masks over images: geometry held to torch's interpolation and to linear ramps, colours to their meaning."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_mm.maps.overlay import fit_to_image, overlay, value_range


@pytest.mark.parametrize("shape", [(5, 7), (1, 4), (3, 1)])
@pytest.mark.parametrize("size", [(40, 21), (13, 64), (5, 7)])
def test_a_whole_mask_is_interpolated_as_torch_does(shape, size):
    mask = np.random.rand(*shape)
    expected = F.interpolate(
        torch.from_numpy(mask)[None, None], size=size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(fit_to_image(mask, size), expected[0, 0].numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("valid", [(1.0, 1.0), (0.75, 0.5), (75 / 96, 100 / 128)])
def test_padding_is_cut_off(valid):
    """A mask linear in the padded input's coordinates stays so on the image, to rounding."""
    cells, size = (24, 32), (90, 120)

    def ramp(shape, extent):
        y = (np.arange(shape[0]) + 0.5) / shape[0] * extent[0]
        x = (np.arange(shape[1]) + 0.5) / shape[1] * extent[1]
        return 3 * y[:, None] - 2 * x + 0.25

    fitted = fit_to_image(ramp(cells, (1, 1)), size, valid)
    # Up to half a cell from the padded input's border there is nothing to interpolate from.
    inner = slice(4, -4), slice(4, -4)
    np.testing.assert_allclose(fitted[inner], ramp(size, valid)[inner], rtol=0, atol=1e-12)
    if valid != (1.0, 1.0):
        assert np.abs(fit_to_image(ramp(cells, (1, 1)), size) - fitted).max() > 0.2, "the cut changes nothing"


def test_value_range_spans_the_mask_and_does_not_stretch_noise():
    assert value_range(np.array([[0.2, 0.9]])) == (0.2, 0.9)
    assert value_range(np.array([[0.5, 0.52]])) == pytest.approx((0.46, 0.56))


def test_turbo_goes_from_blue_to_red_over_the_grey_image():
    image = np.full((8, 30, 3), (40, 90, 200), np.uint8)
    picture = overlay(image, np.linspace(0, 1, 30)[None], scale="turbo").astype(int)
    assert picture.shape == image.shape
    blue, green, red = picture[4, 0], picture[4, 14], picture[4, -1]
    assert blue[0] == blue.max() > blue.min() + 60
    assert green[1] == green.max() > green.min() + 60
    assert red[2] == red.max() > red.min() + 60


# What a deuteranope sees of linear RGB: Machado et al., A Physiologically-based Model for Simulation of
# Color Vision Deficiency, IEEE TVCG 2009, table of severity 1.
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
NORMAL = np.eye(3)


def cielab(picture, vision):
    """The colours that an eye sees in a picture, uint8 BGR, as CIE L*a*b*."""
    rgb = picture[..., ::-1] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(vision), 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(back[..., ::-1].astype(np.float32), cv2.COLOR_BGR2LAB)


@pytest.mark.parametrize(
    ("scale", "vision", "told_apart"),
    [("cividis", NORMAL, 5), ("cividis", DEUTERANOPIA, 5), ("turbo", NORMAL, 20), ("turbo", DEUTERANOPIA, 0)],
)
def test_values_a_quarter_apart_are_told_apart_over_any_picture(scale, vision, told_apart):
    """On the default scale by everybody; a deuteranope takes some of turbo's for each other."""
    greys = np.repeat(np.linspace(0, 255, 12).astype(np.uint8)[:, None, None], 3, axis=2)
    levels = np.linspace(0, 1, 17)
    image = np.repeat(greys, 17, axis=1)
    drawn = overlay(image, np.repeat(levels[None], 12, axis=0), (0, 1), scale)
    seen = cielab(drawn, vision).transpose(1, 0, 2)
    apart = np.linalg.norm(seen[:, None, :, None] - seen[None, :, None, :], axis=-1).min((2, 3))
    nearest = apart[np.abs(levels[:, None] - levels) >= 0.25].min()
    assert nearest > told_apart if told_apart else nearest < 2


def test_a_flat_mask_is_one_colour_and_shows_the_image():
    image = np.random.randint(0, 256, (16, 16, 3), np.uint8)
    difference = overlay(image, np.full((2, 2), 0.5)).astype(int) - overlay(image * 0, np.full((2, 2), 0.5))
    assert np.ptp(difference, axis=2).max() <= 1, "a colour that varies by more than rounding"
    assert difference.max() > 60, "the image can't be seen"


def test_limits_fix_the_scale():
    image = np.zeros((4, 4, 3), np.uint8)
    half, one = np.full((4, 4), 0.5), np.ones((4, 4))
    assert (overlay(image, half, (0, 0.5)) == overlay(image, one, (0, 1))).all()
    assert (overlay(image, half, (0, 1)) != overlay(image, one, (0, 1))).any()
    assert (overlay(image, one, (0, 0.5)) == overlay(image, one, (0, 1))).all(), (
        "values above must be clipped"
    )
