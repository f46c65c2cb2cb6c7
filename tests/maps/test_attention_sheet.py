"""Sheets of maps: every map lies in its place, on the scale that is written on the sheet."""

from __future__ import annotations

import numpy as np
import pytest

from attn_mm.layers.cbam import CHANNELS, POSITIONS
from attn_mm.layers.r2dns import MASK
from attn_mm.maps.attention_sheet import ROW_WIDTH, SIDE, attention_sheet, panel_rows
from attn_mm.maps.limits import Look
from attn_mm.maps.overlay import overlay
from attn_mm.maps.panels import Panel
from attn_mm.maps.sheet import Sheet, text_width, wrapped

PLACES = [(1, 2), (1, 3), (2, 3)]


def random(*size):
    return np.random.default_rng(size).random(size)


def picture(height=SIDE - 60, width=SIDE):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def masks(seed=0):
    return [
        Panel(
            MASK,
            np.random.default_rng((seed, *place)).random((6, 8)),
            "backbone",
            dict(zip(("stage", "flow"), place)),
        )
        for place in PLACES
    ]


def gates(number=6, low=0.0, high=1.0):
    return [
        Panel(POSITIONS, low + (high - low) * random(5, 5 + i), f"backbone.layer{i}.attn")
        for i in range(number)
    ]


def where(sheet, found):
    """Where a picture lies in the sheet, (top, left), at its only place."""
    height, width = found.shape[:2]
    corners = np.argwhere((sheet == found[0, 0]).all(axis=2)).tolist()
    corners = [(y, x) for y, x in corners if np.array_equal(sheet[y, x : x + width], found[0])]
    (place,) = [(y, x) for y, x in corners if np.array_equal(sheet[y : y + height, x : x + width], found)]
    return place


def written(sheet):
    """The texts of a sheet, as an SVG that keeps them has them."""
    return [text.get_text() for text in sheet._figure().axes[0].texts]


def test_masks_have_flows_as_rows_and_stages_as_columns():
    image, panels = picture(), masks()
    sheet = attention_sheet(image, panels)
    pixels = sheet.pixels()
    # A gate's shared scale is all that is possible.
    at = {place: where(pixels, overlay(image, panel.values, (0, 1))) for place, panel in zip(PLACES, panels)}
    assert at[1, 2][0] < at[1, 3][0] == at[2, 3][0] and at[1, 2][1] == at[1, 3][1] < at[2, 3][1]
    assert where(pixels, image)[1] < at[1, 2][1]
    blank = pixels[at[1, 2][0] : at[1, 2][0] + 100, at[2, 3][1] : at[2, 3][1] + SIDE]
    assert (blank == 255).all(), "flow 2 of stage 2 has no mask"
    texts = written(sheet)
    assert {"stage 1, flow 1 → 2", "stage 2, flow 2 → 3"} <= set(texts)
    assert texts.count("0.00") == texts.count("1.00") == 1, "one scale for all"


def test_a_sheet_says_which_gates_hardly_vary():
    panels = [*gates(1), *gates(1, 0.5, 0.503), Panel(CHANNELS, np.full(9, 0.25), "backbone.se")]
    panels[1].layer = "backbone.flat"
    sheet = attention_sheet(picture(), panels)
    low, high = panels[1].values.min(), panels[1].values.max()
    assert [text for text in written(sheet) if "var" in text] == [
        f"varies by only {high - low:.1g}",
        "does not vary",
    ]
    # One colour on the shared scale, and almost one on its own, which spans a tenth.
    for scale in ("shared", "own"):
        ends = Look(scale=scale).limits(panels)[panels[1].key]
        assert ends == (0, 1) if scale == "shared" else ends[1] - ends[0] == pytest.approx(0.1)


def test_own_scales_are_written_below_each_map():
    image, panels = picture(), gates(6, 0.2, 0.7)
    look = Look("turbo", "own")
    sheet = attention_sheet(image, panels, look.limits(panels), look.colours)
    pixels, texts = sheet.pixels(), written(sheet)
    for panel in panels:
        low, high = panel.values.min(), panel.values.max()
        where(pixels, overlay(image, panel.values, (low, high), "turbo"))
        assert f"{low:.2f}" in texts and f"{high:.2f}" in texts
    assert texts.count("0.00") == 0


def test_labels_are_large_and_do_not_overlap():
    """At the width of a page, 830 pixels of 1/96 inch, letters have 9 points or more."""
    long = [
        Panel(POSITIONS, random(3, 3), f"backbone.stage{i}.a_rather_long_name.of.a.module.attention")
        for i in range(5)
    ]
    figure = attention_sheet(picture(), [*long, *gates(), *masks()])._figure()
    texts = figure.axes[0].texts
    points = [text.get_size() / 72 * figure.dpi for text in texts]
    shown = min(points) * 830 / (figure.get_figwidth() * figure.dpi) * 72 / 96
    assert shown >= 9
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    shrunk = [box.shrunk(0.98, 0.9) for box in boxes]
    for index, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1, texts[index]
        assert not [other for other in shrunk[index + 1 :] if box.overlaps(other)], texts[index]


def test_rows_of_pictures_have_a_column_for_each_map_and_one_scale():
    rows = [
        (np.random.default_rng(i).integers(0, 256, (90, ROW_WIDTH, 3), np.uint8), masks(i)) for i in range(2)
    ]
    pixels = panel_rows(rows).pixels()
    at = {}
    for row, (image, panels) in enumerate(rows):
        drawn = [image, *(overlay(image, panel.values, (0, 1)) for panel in panels)]
        at |= {(row, column): where(pixels, found) for column, found in enumerate(drawn)}
    for (row, column), (top, left) in at.items():
        assert top == at[row, 0][0] and left == at[0, column][1]
    assert at[0, 0][0] < at[1, 0][0]
    assert [at[0, c][1] for c in range(4)] == sorted({at[0, c][1] for c in range(4)})


@pytest.mark.parametrize("others", [[], masks()[:1]])
def test_rows_need_the_same_masks(others):
    with pytest.raises(ValueError, match="panels of the same layers and places"):
        panel_rows([(picture(), masks()), (picture(), others)])


@pytest.mark.parametrize("size", [(1000, 30), (30, 1000), (2, 900), (64, 64)])
def test_a_picture_may_have_any_shape(size):
    sheet = attention_sheet(np.zeros((*size, 3), np.uint8), masks()).pixels()
    assert sheet.dtype == np.uint8 and sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="at least one panel"):
        attention_sheet(picture(), [])


def test_pdf_and_svg(tmp_path):
    for name in ("sheet.svg", "sheet.pdf"):
        attention_sheet(picture(), masks()).write(tmp_path / name)
    svg = (tmp_path / "sheet.svg").read_text()
    assert svg.count("<image") >= 4 and "<script" not in svg
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")


def test_hostile_names_are_text(tmp_path):
    """No formula, no markup; letters that the font lacks and that aren't UTF-8 don't stop the sheet."""
    sheet = Sheet(100)
    for line in ("$x_{", "</svg><script>alert(1)</script>", "猫\udcff"):
        sheet.text(0, sheet.height, line)
    assert sheet.pixels().min() < 128
    sheet.write(tmp_path / "x.svg")
    assert "<script>" not in (tmp_path / "x.svg").read_text()


def test_values_outside_the_claimed_bounds_leave_the_histogram_empty():
    panel = Panel(CHANNELS, np.full(4, 1.5), "backbone.se")
    with np.errstate(all="raise"):
        sheet = attention_sheet(picture(), [panel])
    assert "from 1.50 to 1.50" in written(sheet)


@pytest.mark.parametrize("most", [None, 2])
def test_lines_keep_to_their_width(most):
    text = "backbone.layer1.0.attention_of_a_very_long_name_indeed.conv2 and some words"
    lines = wrapped(text, 120, most)
    assert all(text_width(line) <= 120 for line in lines) and len(lines) <= (most or 99)
    assert most or "".join(lines).startswith("backbone.layer1.0.")
