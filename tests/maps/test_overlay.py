"""Masks over images: geometry held to torch's interpolation and to linear ramps, colours to their meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_mm.maps.overlay import PANEL_SIDE, contact_sheet, fit_to_image, mask_rows, overlay, value_range


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


def test_colours_go_from_blue_to_red_over_the_grey_image():
    image = np.full((8, 30, 3), (40, 90, 200), np.uint8)
    picture = overlay(image, np.linspace(0, 1, 30)[None]).astype(int)
    assert picture.shape == image.shape
    blue, green, red = picture[4, 0], picture[4, 14], picture[4, -1]
    assert blue[0] == blue.max() > blue.min() + 60
    assert green[1] == green.max() > green.min() + 60
    assert red[2] == red.max() > red.min() + 60


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


MASKS = {key: np.random.default_rng(key).random((6, 8)) for key in [(0, 2), (0, 3), (1, 3)]}


def find(sheet, picture):
    """Where a picture lies in the sheet, (top, left)."""
    rows, columns = (sheet.shape[axis] - picture.shape[axis] + 1 for axis in (0, 1))
    corners = np.argwhere((sheet[:rows, :columns] == picture[0, 0]).all(axis=2))
    height, width = picture.shape[:2]
    return [(y, x) for y, x in corners.tolist() if (sheet[y : y + height, x : x + width] == picture).all()]


def test_contact_sheet_has_flows_as_rows_and_stages_as_columns():
    image = np.random.randint(0, 256, (300, PANEL_SIDE, 3), np.uint8)
    sheet = contact_sheet(image, MASKS)
    places = {key: find(sheet, overlay(image, mask)) for key, mask in MASKS.items()}
    assert all(len(found) == 1 for found in places.values()), places
    (top_02, left_02), (top_03, left_03), (top_13, left_13) = (places[key][0] for key in MASKS)
    ((top, left),) = find(sheet, image)
    assert top == top_02 < top_03 == top_13
    assert left < left_02 == left_03 < left_13
    blank = sheet[top_02 : top_02 + 300, left_13 : left_13 + PANEL_SIDE]
    assert (blank == 255).all(), "flow 2 of stage 2 has no mask"


def test_contact_sheet_names_each_mask_and_its_scale():
    """The ink above and below a panel changes with the names and the figures, and only with them."""
    image = np.zeros((300, PANEL_SIDE, 3), np.uint8)

    def strips(key, mask, limits=None):
        sheet = contact_sheet(image, {key: mask}, limits and {key: limits})
        ((top, left),) = find(sheet, overlay(image, mask, limits))
        panel = sheet[:, left : left + PANEL_SIDE]
        return panel[:top], panel[top + 300 :]

    mask = MASKS[0, 2]
    title, scale = strips((0, 2), mask)
    other_title, other_scale = strips((1, 2), mask)
    assert (title != other_title).any()
    assert (scale == other_scale).all()
    of_no_flow, _ = strips((0, 0), mask)
    assert (of_no_flow != strips((0, 1), mask)[0]).any()
    other_title, other_scale = strips((0, 2), mask, (0.0, 2.0))
    assert (title == other_title).all()
    assert (scale != other_scale).any()


@pytest.mark.parametrize("size", [(1000, 30), (30, 1000), (2, 900), (64, 64), (1500, 1000)])
def test_contact_sheet_takes_any_shape(size):
    sheet = contact_sheet(np.zeros((*size, 3), np.uint8), MASKS)
    assert sheet.dtype == np.uint8
    assert 200 < max(sheet.shape) < 4 * (PANEL_SIDE + 50)


def test_contact_sheet_refuses_nothing_to_draw():
    with pytest.raises(ValueError, match="at least one mask"):
        contact_sheet(np.zeros((8, 8, 3), np.uint8), {})


def test_rows_of_images_have_a_column_for_each_stage_and_flow():
    """Wherever an image's overlay by one of its masks stands, it stands in its row and column."""
    images = [np.random.randint(0, 256, (128, 128, 3), np.uint8) for _ in range(2)]
    keys = [(0, 2), (0, 3), (1, 3)]
    rows = [(image, {key: np.random.rand(8, 8) for key in reversed(keys)}) for image in images]
    picture = mask_rows(rows)
    corners = {}
    for row, (image, masks) in enumerate(rows):
        expected = [image, *(overlay(image, masks[key]) for key in keys)]
        for column, panel in enumerate(expected):
            corners[row, column] = where(picture, panel)
    for (row, column), (top, left) in corners.items():
        assert top == corners[row, 0][0] and left == corners[0, column][1]
    tops, lefts = ([corners[row, 0][0] for row in (0, 1)], [corners[0, c][1] for c in range(4)])
    assert tops == sorted(set(tops)) and lefts == sorted(set(lefts))


def where(picture, panel):
    """Row and column of the only place where ``panel`` stands in ``picture``."""
    height, width = panel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], (1, width))[:, :, 0]
    found = [
        (top, left)
        for top, left in np.argwhere((windows == panel[0, :, 0]).all(2)).tolist()
        if (picture[top : top + height, left : left + width] == panel).all()
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("others", [{}, {(0, 3): np.ones((2, 2))}])
def test_rows_need_the_same_masks(others):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="masks of the same stages and flows"):
        mask_rows([(image, {(0, 2): np.ones((2, 2))}), (image, others)])
